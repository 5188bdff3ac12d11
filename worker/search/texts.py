"""Texts of requests and replies: from bytes to what is searched, and the piece of it that was looked for."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

MAX_TEXT_BYTES = 64 * 1024
"""So much of the beginning of a request or a reply is searched by text, and told in excerpts."""
AROUND = 40
"""Characters of an excerpt before the match, and after it."""

_DECLARED = re.compile(rb"""<\?xml[^>]{0,100}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def text_of(body: bytes) -> str:
    """Return the text of the beginning of a body: by its XML declaration, else UTF-8; nothing is refused."""
    beginning = body[:MAX_TEXT_BYTES]
    try:
        text = beginning.decode(_encoding(beginning), "replace")
    except (LookupError, UnicodeError):  # a declaration may name what is no encoding of texts
        text = beginning.decode("utf-8", "replace")
    # Some encodings have halves of characters, and no database takes these, or NUL.
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")


def folded(text: str) -> str:
    """Return a text without differences of case, each character in its place."""
    # Of these three alone the small letter is two characters, or another one at the end of a word.
    return text.replace("İ", "I").lower().replace("ς", "σ")


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The piece of a text around what was looked for, on one line.

    Attributes:
        n: of which attempt the reply is; 0 for the request.
    """

    n: int
    before: str
    match: str
    after: str


def excerpt(n: int, text: str, wanted: str) -> Excerpt | None:
    """Return the piece of a text around the first place where `wanted` stands; None where it does not."""
    at = folded(text).find(folded(wanted))
    if at < 0:
        return None
    end = at + len(wanted)
    before = "…" * (at > AROUND) + text[max(0, at - AROUND) : at]
    after = text[end : end + AROUND] + "…" * (len(text) > end + AROUND)
    return Excerpt(
        n, *("".join(c if c.isprintable() else " " for c in each) for each in (before, text[at:end], after))
    )


def _encoding(beginning: bytes) -> str:
    for mark, name in _MARKS:
        if beginning.startswith(mark):
            return name
    declared = _DECLARED.match(beginning)
    return declared[1].decode("ascii") if declared else "utf-8"
