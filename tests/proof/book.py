"""A ledger on disk: an entry a line, each forced to disk before anything is done that it tells of."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Book:
    """A file to write entries into, at its end.

    Args:
        file: it is made where it is missing.
    """

    def __init__(self, file: Path) -> None:
        self._file = file.open("ab", buffering=0)

    def write(self, **entry: Any) -> None:
        """Write an entry; it is on the disk when this returns."""
        self._file.write(json.dumps(entry).encode() + b"\n")
        os.fsync(self._file.fileno())


def entries(file: Path) -> list[dict[str, Any]]:
    """Return what was written, in order; a last line that was cut off by a kill says nothing."""
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines]
