"""How things are told in pages: text that hides nothing, moments in UTC with their age in words."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from markupsafe import Markup, escape

from worker.notes import roughly

_HIDING = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Categories of characters that show nothing, or turn others round."""
_PLAIN = frozenset("\n\t")
_CONTROL_PICTURES = 0x2400
_DELETE = 0x7F


def visible(text: str) -> str:
    """Return text in which every character can be seen."""
    if text.isprintable():
        return text
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character in _PLAIN or unicodedata.category(character) not in _HIDING:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(_CONTROL_PICTURES + code)
    return "\N{SYMBOL FOR DELETE}" if code == _DELETE else f"⟨U+{code:04X}⟩"


def exact(text: str) -> Markup:
    """Return text that a form gives back as it is, also where it hides something: to be sent, not read."""
    return escape(text)


def difference_lines(difference: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a unified diff, each with what it tells: added, removed, place or same."""
    lines = difference.splitlines()
    if lines[:2] == _HEADER:
        del lines[:2]
    for line in lines:
        yield _TOLD_BY.get(line[:1], "same"), line


_HEADER = ["--- before", "+++ after"]
_TOLD_BY = {"+": "added", "-": "removed", "@": "place"}


def finalized(value: Any) -> Any:
    """Return a value as a template prints it: no text hides anything, and what is not known is a dash."""
    if value is None:
        return "–"
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def moment(value: datetime) -> str:
    """Return a moment in UTC, to the second."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def machine_moment(value: datetime) -> str:
    """Return a moment as the attribute of a <time> has it."""
    return value.astimezone(UTC).isoformat(timespec="seconds")


def age(value: datetime, now: datetime) -> str:
    """Return in words how long ago a moment was, or how far ahead it lies."""
    span = now - value
    if abs(span) < timedelta(seconds=1):
        return "just now"
    return f"{roughly(span)} ago" if span > timedelta() else f"in {roughly(-span)}"


def number(value: float) -> str:
    """Return a number with its thousands apart."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def per_minute(value: float) -> str:
    """Return a rate as exactly as it can be read."""
    return number(value) if value >= 10 or not value else f"{value:.1f}"


def seconds(value: float | None) -> str:
    """Return a duration of a request."""
    if value is None:
        return "–"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
