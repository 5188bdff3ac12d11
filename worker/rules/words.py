"""What is told of a reply: one bounded line of plain text."""

from __future__ import annotations

import re

MAX_TEXT_CHARACTERS = 300
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+",
)
"""Control characters, those that turn the direction of what follows, and halves of characters."""


def in_one_line(text: str) -> str:
    """Return `text` without what controls a terminal, on one line, of `MAX_TEXT_CHARACTERS` at most."""
    line = " ".join(_UNPRINTABLE.sub(" ", text).split())
    return line if len(line) <= MAX_TEXT_CHARACTERS else f"{line[: MAX_TEXT_CHARACTERS - 1]}…"
