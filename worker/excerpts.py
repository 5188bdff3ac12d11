"""Excerpts: the piece of a reply that an alert may tell, with nothing in it of what the shop sent."""

from __future__ import annotations

import html

MAX_CHARACTERS = 300
LIKE_THE_PAYLOAD = 16
"""So many characters in a row that stand in the payload too are taken for a repetition of it."""
LEFT_OUT = "…"
LOOKED_AT_BYTES = 4096


def excerpt(reply: bytes, payload: bytes | None) -> str:
    """Return the beginning of a reply on one line, printable, without what it repeats of the payload.

    Args:
        reply: the body as it is stored: without credentials.
        payload: the document that was sent, if there was one.
    """
    sent = _one_line(payload or b"")
    # A run is looked for to its end, beyond what is told.
    shown = _one_line(reply[:LOOKED_AT_BYTES])[: MAX_CHARACTERS + LIKE_THE_PAYLOAD]
    repeated = [False] * len(shown)
    for start in range(len(shown) - LIKE_THE_PAYLOAD + 1):
        if shown[start : start + LIKE_THE_PAYLOAD] in sent:
            repeated[start : start + LIKE_THE_PAYLOAD] = [True] * LIKE_THE_PAYLOAD
    told = ""
    for character, is_repeated in zip(shown[:MAX_CHARACTERS], repeated, strict=False):
        if not is_repeated:
            told += character if character.isprintable() else "·"
        elif not told.endswith(LEFT_OUT):
            told += LEFT_OUT
    return told


def _one_line(document: bytes) -> str:
    return " ".join(html.unescape(document.decode("utf-8", "replace")).split())
