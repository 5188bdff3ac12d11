"""What differs between two documents, as a person reads it: pure."""

from __future__ import annotations

from difflib import unified_diff

MOST_LINES = 20_000
"""Longer documents are not compared by lines, which could take minutes: how long they are is told."""
MOST_CHARACTERS = 256 * 1024
"""So much of a difference is kept. Both documents are kept whole, each with its message."""
CUT = "… the difference goes on: both documents are kept whole\n"


def difference(before: bytes, after: bytes) -> str:
    """Return the difference of two documents as a unified diff, an element a line.

    What cannot be told by lines, such as other ends of lines, is told in a sentence.
    """
    if before == after:
        return ""
    old, new = _lines(before), _lines(after)
    if len(old) + len(new) > MOST_LINES:
        told = f"too long to compare: {len(old)} lines became {len(new)}\n"
    else:
        told = "\n".join(unified_diff(old, new, "before", "after", lineterm=""))
        told = f"{told}\n" if told else "only white space between lines or elements differs\n"
    return told if len(told) <= MOST_CHARACTERS else f"{told[:MOST_CHARACTERS]}\n{CUT}"


def _lines(document: bytes) -> list[str]:
    """Return the lines of a document; those in which elements stand side by side, an element a line."""
    return document.decode("utf-8", "replace").replace("><", ">\n<").splitlines()
