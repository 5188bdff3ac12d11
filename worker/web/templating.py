"""The templates, and what all of them share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from config import Role
from worker.search.language import Condition

from . import texts

_HERE = Path(__file__).parent
STATIC = {"console.css": "text/css", "console.js": "text/javascript"}


def assets() -> Mapping[str, bytes]:
    """Return the files that pages load, by name."""
    return {name: (_HERE / "static" / name).read_bytes() for name in STATIC}


def environment(files: Mapping[str, bytes]) -> Environment:
    """Return the templates, which escape whatever they print.

    Args:
        files: those that pages load: their addresses change with what is in them.
    """
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=texts.finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "exact": texts.exact,
        "moment": texts.moment,
        "machine_moment": texts.machine_moment,
        "age": texts.age,
        "difference_lines": texts.difference_lines,
        "number": texts.number,
        "per_minute": texts.per_minute,
        "seconds": texts.seconds,
        "as_condition": lambda value, name: str(Condition(name, value)),
    }
    made.globals |= {
        "asset": {
            name: f"/static/{name}?{hashlib.sha256(content).hexdigest()[:12]}"
            for name, content in files.items()
        },
        "Role": Role,
    }
    return made
