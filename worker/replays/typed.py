"""A document as text that a person types in a browser, and back to its bytes: pure.

A browser makes CR LF of every end of a line and says nothing of a byte order mark. So what a person has not
touched is written as it was: the mark, and the end of each line that is still there.
"""

from __future__ import annotations

import re
from collections import Counter
from difflib import SequenceMatcher

from worker.by_hand import NotPossible

LARGEST = 256 * 1024
"""Of a document that is edited in a page, in bytes."""
MOST_LINES_COMPARED = 20_000
"""Of a longer document with ends of several kinds, each line gets the kind that most have."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_ENDS = re.compile("\r\n|\r|\n")
_UNTYPED = re.compile("[\0\ud800-\udfff]")


def text_of(document: bytes) -> str:
    """Return a document as it is put into a page to be edited.

    Raises:
        NotPossible: it is too large for that, or no UTF-8, and so its bytes could not be had again.
    """
    if len(document) > LARGEST:
        raise NotPossible(
            f"the document has {len(document)} bytes, too many for a page: download it, mend it and send it "
            "by python -m worker dead edit --file"
        )
    try:
        text = document.removeprefix(BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        raise NotPossible(
            f"the document is not in UTF-8 (byte {error.start + 1}), as enqueue wants it: download it, "
            "make UTF-8 of it and send it by python -m worker dead edit --file"
        ) from None
    if _UNTYPED.search(text):
        raise NotPossible("the document has characters that no page can hold: edit it as a file")
    return text


def document_of(typed: str, before: bytes) -> bytes:
    """Return the document that a person has made of `before`.

    Args:
        typed: what came of the text of `before` in a browser, with whatever ends of lines.
    """
    old, ends = _lines(before.removeprefix(BYTE_ORDER_MARK).decode("utf-8", "replace"))
    new, _ = _lines(typed)
    mark = BYTE_ORDER_MARK if before.startswith(BYTE_ORDER_MARK) else b""
    written = zip(new, [*_apart(new, _ends_of(new, old, ends)), ""], strict=True)
    return mark + "".join(line + end for line, end in written).encode()


def _lines(text: str) -> tuple[list[str], list[str]]:
    """Return the lines of a text, and the ends between them: one fewer."""
    return _ENDS.split(text), _ENDS.findall(text)


def _ends_of(new: list[str], old: list[str], ends: list[str]) -> list[str]:
    """Return the end of each new line but the last: that of the line in its place, else the usual one."""
    usual = Counter(ends).most_common(1)[0][0] if ends else "\n"
    found = [usual] * (len(new) - 1)
    if len(set(ends)) > 1 and len(new) + len(old) <= MOST_LINES_COMPARED:
        for _, first, last, begin, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            for was, becomes in zip(range(first, last), range(begin, end), strict=False):
                if was < len(ends) and becomes < len(found):
                    found[becomes] = ends[was]
    return found


def _apart(new: list[str], ends: list[str]) -> list[str]:
    """Return ends of which no two become one: a CR before an empty line that ends with LF is made an LF."""
    apart = list(ends)
    for n in range(len(apart) - 2, -1, -1):  # from the last one on: an LF that is made asks for one before it
        if apart[n] == "\r" and not new[n + 1] and apart[n + 1] == "\n":
            apart[n] = "\n"
    return apart
