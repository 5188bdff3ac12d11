"""The items of an import document, cut out byte for byte.

A document is never written anew: what a parser gives back is no longer what the shop wrote.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from xml.parsers import expat

from orderflow_outbox.documents import ImportFound

_TAG = re.compile(rb"""<(?:[^"'>]|"[^"]*"|'[^']*')*>""")
_BEGINNING = b"<import"


@dataclass(frozen=True, slots=True)
class SentItem:
    """One `<import>` of a document: what it says, and where its bytes stand."""

    found: ImportFound
    start: int
    end: int

    @property
    def reference(self) -> str:
        """Its externalReference, without the blanks around it: a report may have it without, too."""
        return self.found.attributes.get("externalReference", "").strip()

    @property
    def name(self) -> tuple[str, str, str]:
        """What a report calls it by: type, operation and reference."""
        attributes = self.found.attributes
        return attributes.get("type", ""), attributes.get("operation", ""), self.reference


class _Reading:
    """One pass of expat over a document that was checked when it was enqueued."""

    def __init__(self, document: bytes) -> None:
        self._document = document
        self._depth = 0
        self._start = 0
        self._attributes: dict[str, str] = {}
        self._text: list[str] = []
        self.items: list[SentItem] = []
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._begin
        self._parser.EndElementHandler = self._end
        self._parser.Parse(document, True)

    def _begin(self, _name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth == 2:
            self._start, self._attributes, self._text = self._parser.CurrentByteIndex, attributes, []
            self._parser.CharacterDataHandler = self._text.append

    def _end(self, _name: str) -> None:
        self._depth -= 1
        if self._depth == 1:
            self._parser.CharacterDataHandler = None
            found = ImportFound(self._attributes, "".join(self._text))
            self.items.append(SentItem(found, self._start, self._end_of_item()))

    def _end_of_item(self) -> int:
        """Return where it ends: an element without an end tag ends with its only one."""
        tag = _TAG.match(self._document, self._start)
        assert tag is not None  # noqa: S101 (expat has just read it)
        if tag[0].endswith(b"/>"):
            return tag.end()
        return self._document.index(b">", self._parser.CurrentByteIndex) + 1


def items_of(document: bytes) -> list[SentItem]:
    """Return the items of an import document that was checked when it was enqueued."""
    return _Reading(document).items


def is_of_one_item(document: bytes) -> bool:
    """Tell, without reading it, whether an import document surely holds one item only."""
    return document.count(_BEGINNING) == 2  # the root's and its own


def cut(document: bytes, items: Sequence[SentItem], places: Collection[int]) -> bytes:
    """Return the document with the items at `places` alone, counted from 1, and their bytes as they were."""
    kept = [document[item.start : item.end] for n, item in enumerate(items, 1) if n in places]
    return document[: items[0].start] + b"\n".join(kept) + document[items[-1].end :]
