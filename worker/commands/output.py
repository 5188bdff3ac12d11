"""How commands show things: tables and colours for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.store.finding import Row

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

STATE_STYLES = {
    "delivered": "green",
    "dead": "bold red",
    "sending": "cyan",
    "pending": "yellow",
    "cancelled": "dim",
    "superseded": "dim",
    "not configured": "bold red",
    "held": "bold red",
    "breaker open": "bold red",
    "probing": "yellow",
    "paused": "yellow",
    "open": "green",
    "well": "green",
    "warning": "yellow",
    "trouble": "bold red",
    "unknown": "yellow",
}

_STYLES_OF_LINES = {"+": "green", "-": "red", "@": "cyan"}

WIDTH_OF_A_FILE = 200
"""Columns of output that no terminal shows, such as a log."""

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)

progress = Console(highlight=False, stderr=True)
"""For what is of the moment: it goes to standard error, and into no pipe."""


def print_json(value: Any) -> None:
    """Print one JSON document on one line."""
    sys.stdout.write(json.dumps(value, default=_plain) + "\n")


def as_json(row: Row) -> dict[str, Any]:
    """Return a database row as a mapping that JSON can show."""
    return {name: _value(value) for name, value in row.items()}


def table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table in the house style."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, no_wrap=column != "text")
    return made


def state(name: str) -> Text:
    """Return a state in its colour."""
    return Text(name, style=STATE_STYLES.get(name, ""))


def warning(line: str) -> Text:
    """Return a line that a person should see, though nothing is refused for it."""
    shown = plain(f"warning: {line}")
    shown.stylize("yellow")
    return shown


def moment(value: datetime | None) -> str:
    """Return a moment in UTC as people read it."""
    return "–" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def plain(value: object) -> Text:
    """Return text as it is: nothing in it is taken for markup or for a control sequence."""
    shown = "–" if value is None else str(value)
    return Text("".join(c if c.isprintable() or c == "\n" else "·" for c in shown))


def cell(value: object, most: int = 40) -> Text:
    """Return text as `plain` does, cut so that it leaves the other columns of a table their room."""
    shown = "–" if value is None else str(value)
    return plain(shown if len(shown) <= most else f"{shown[: most - 1]}…")


def print_difference(changes: str) -> None:
    """Print a unified diff in its colours."""
    for line in changes.splitlines():
        shown = plain(line)
        shown.stylize(_STYLES_OF_LINES.get(line[:1], ""))
        console.print(shown)


def _value(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)
