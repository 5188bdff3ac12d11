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
    # A run is looked for to its end, beyond what is told.
    shown = _one_line(reply[:LOOKED_AT_BYTES])[: MAX_CHARACTERS + LIKE_THE_PAYLOAD]
    return _cut(shown, payload, MAX_CHARACTERS)


def cut_text(text: str, payload: bytes | None) -> str:
    """Return a text that may have been lifted from a reply, as `excerpt` does the reply."""
    shown = _one_line(text.encode("utf-8", "replace"))
    return _cut(shown, payload, len(shown))


def _cut(shown: str, payload: bytes | None, most: int) -> str:
    if len(shown) < LIKE_THE_PAYLOAD:
        return "".join(map(_printable, shown))
    looked_for = _folded(shown)
    sent = _near(looked_for, _folded(_one_line(payload or b"")))
    repeated = [False] * len(shown)
    for start in range(len(shown) - LIKE_THE_PAYLOAD + 1):
        if looked_for[start : start + LIKE_THE_PAYLOAD] in sent:
            repeated[start : start + LIKE_THE_PAYLOAD] = [True] * LIKE_THE_PAYLOAD
    told = ""
    for character, is_repeated in zip(shown[:most], repeated, strict=False):
        if not is_repeated:
            told += _printable(character)
        elif not told.endswith(LEFT_OUT):
            told += LEFT_OUT
    return told


def _near(shown: str, sent: str) -> str:
    """Return the parts of what was sent that a repetition can be of, a line each; by one pass over it."""
    # However a repetition lies, it holds one whole piece of those that what was sent is cut into.
    size = LIKE_THE_PAYLOAD // 2
    pieces = {shown[start : start + size] for start in range(len(shown) - size + 1)}
    return "\n".join(
        {
            sent[max(0, start - size) : start + 2 * size]
            for start in range(0, len(sent), size)
            if sent[start : start + size] in pieces
        }
    )


def _printable(character: str) -> str:
    return character if character.isprintable() else "·"


def _folded(line: str) -> str:
    # The one letter that would become two, so that places stay what they are.
    return line.replace("İ", "I").lower()


def _one_line(document: bytes) -> str:
    return " ".join(html.unescape(document.decode("utf-8", "replace")).split())
