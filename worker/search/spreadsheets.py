"""What a search found as CSV, in which no spreadsheet takes anything for a formula."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from .finding import Hit

COLUMNS = (
    *("id", "created_at", "operation", "destination", "channel", "organisation", "key", "state", "attempts"),
    *("verdict", "reason", "status", "letter", "replay_of"),
)
"""Those before the excerpt."""
DEFUSED = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


def write_csv(file: TextIO, hits: Sequence[Hit]) -> None:
    """Write a heading and a line for each message that was found."""
    written = csv.writer(file)
    written.writerow([*COLUMNS, "text"])
    for each in hits:
        piece = each.excerpt
        text = "" if piece is None else piece.before + piece.match + piece.after
        written.writerow([_defused(_cell(value)) for value in (*map(each.row.get, COLUMNS), text)])


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return "" if value is None else str(value)


def _defused(cell: str) -> str:
    return f"'{cell}" if cell.startswith(DEFUSED) else cell
