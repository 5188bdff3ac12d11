"""A document as expat reads it, with the place in its bytes of all that it says."""

from __future__ import annotations

import codecs
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias
from xml.parsers import expat

Span: TypeAlias = tuple[int, int, bytes]
"""Where bytes begin and end, and what stands in their place for a view."""

LONGEST_NAME = 200
"""A text of more characters is not taken for the name of a field."""

_DECLARATION = re.compile(rb"""(<\?xml[^>]*?)\s+encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_TAG = re.compile(rb"""<(?:[^"'>]|"[^"]*"|'[^']*')*>""")
_ATTRIBUTE = re.compile(rb"""([^\s=<>/"']+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")


class Attribute(NamedTuple):
    """An attribute's value, where it stands, and whether it is of a person."""

    value: str
    start: int
    end: int
    is_personal: bool


@dataclass(slots=True)
class _Element:
    """An element that is open.

    Attributes:
        name: its path, joined by dots.
        begins: where its text begins.
        personal_from: from where on its text is of a person; None where it is not.
    """

    name: str
    begins: int
    personal_from: int | None


class Markup:
    """A document's text, and where each character of it stands in the bytes.

    Elements below the root are parted by a NUL, which no document can hold.

    Args:
        document: its bytes, in whatever encoding it names.
        is_personal: tells by its name whether a field is of a person.

    Attributes:
        document: its bytes, in UTF-8.
        text: all its text.
        personal: where in the text elements of a person stand.
        attributes: those of all elements.
        remarks: where comments and processing instructions stand, of which nobody knows what they hold.

    Raises:
        ExpatError: it is no XML.
        ValueError: it has a DOCTYPE, or bytes that its encoding does not know.
        LookupError: its encoding is not known.
    """

    def __init__(self, document: bytes, is_personal: Callable[[str], bool]) -> None:
        self.document = _in_utf8(document)
        self.personal: list[tuple[int, int]] = []
        self.attributes: list[Attribute] = []
        self.remarks: list[tuple[int, int]] = []
        self._is_personal = is_personal
        self._open: list[_Element] = []
        self._pieces: list[str] = []
        self._begins: list[int] = []
        self._places: list[int] = []
        self._ends: list[int] = []
        self._length = 0
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._data
        self._parser.CommentHandler = self._comment
        self._parser.ProcessingInstructionHandler = self._instruction
        self._parser.StartCdataSectionHandler = self._ended
        self._parser.EndCdataSectionHandler = self._ended
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.Parse(self.document, True)
        self.text = "".join(self._pieces)

    def with_masks(self, intervals: Iterable[tuple[int, int]], spans: Iterable[Span], mask: bytes) -> bytes:
        """Return the document with parts of it masked; its elements stay what they are.

        Args:
            intervals: parts of its text.
            spans: parts of its bytes, which are no text.
            mask: what is shown in place of each interval.
        """
        masked = [*spans]
        for start, end in joined(intervals):
            shown = mask
            for number in range(bisect_right(self._begins, start) - 1, len(self._begins)):
                if self._begins[number] >= end:
                    break
                first, last = self._bytes_of(number, start, end)
                if first < last:
                    masked.append((first, last, shown))
                    shown = b""
        made, at = [], 0
        for first, last, shown in sorted(masked):
            made += [self.document[at:first], shown]
            at = last
        return b"".join((*made, self.document[at:]))

    def _bytes_of(self, number: int, start: int, end: int) -> tuple[int, int]:
        """Return where the part of a piece stands that lies between two places of the text."""
        piece, begins, place = self._pieces[number], self._begins[number], self._places[number]
        start, end = max(start - begins, 0), min(end - begins, len(piece))
        if len(piece) == 1:  # it may be written in many ways
            return place, self._ends[number] if end > start else place
        return place + len(piece[:start].encode()), place + len(piece[:end].encode())

    def _data(self, data: str) -> None:
        self._ended()
        self._add(data, self._parser.CurrentByteIndex)

    def _add(self, piece: str, place: int) -> None:
        self._pieces.append(piece)
        self._begins.append(self._length)
        self._places.append(place)
        self._length += len(piece)

    def _ended(self) -> None:
        """Note where the piece before ended: where whatever follows it begins."""
        if len(self._ends) < len(self._places):
            self._ends.append(self._parser.CurrentByteIndex)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._ended()
        local = name.rpartition(":")[2]
        path = f"{self._open[-1].name}.{local}" if self._open else local
        if len(self._open) == 1:
            self._part()
        # As in <field name="lastName" value="Smith"/>.
        named = any(self._is_personal(value) for value in attributes.values())
        self._note_attributes(path, attributes, named)
        personal = named or self._is_personal(path)
        self._open.append(_Element(path, self._length, self._length if personal else None))

    def _part(self) -> None:
        self._add("\0", self._parser.CurrentByteIndex)
        self._ends.append(self._parser.CurrentByteIndex)

    def _note_attributes(self, path: str, attributes: dict[str, str], named: bool) -> None:
        if not attributes:
            return
        place = self._parser.CurrentByteIndex
        tag = _TAG.match(self.document, place)
        assert tag is not None  # noqa: S101 (expat has just read it)
        for found in _ATTRIBUTE.finditer(tag[0]):
            name, value = found[1].decode(), attributes[found[1].decode()]
            group = 2 if found[2] is not None else 3
            personal = self._is_personal(f"{path}.{name.rpartition(':')[2]}") or (
                named and not self._is_personal(value)
            )
            where = place + found.start(group), place + found.end(group)
            self.attributes.append(Attribute(value, *where, personal))

    def _end(self, _name: str) -> None:
        self._ended()
        element = self._open.pop()
        if element.personal_from is not None:
            self._note(element.personal_from)
        elif self._open and self._length - element.begins <= LONGEST_NAME:
            # As in <name>lastName</name><value>Smith</value>.
            name = "".join(self._pieces[bisect_left(self._begins, element.begins) :])
            if self._open[-1].personal_from is None and self._is_personal(name.replace("\0", "")):
                self._open[-1].personal_from = self._length
        if len(self._open) == 1:
            self._part()

    def _note(self, start: int) -> None:
        if start < self._length:
            self.personal.append((start, self._length))

    def _comment(self, _data: str) -> None:
        self._remark(b"-->")

    def _instruction(self, _target: str, _data: str) -> None:
        self._remark(b"?>")

    def _remark(self, closing: bytes) -> None:
        self._ended()
        start = self._parser.CurrentByteIndex
        self.remarks.append((start, self.document.index(closing, start) + len(closing)))

    def _doctype(self, *_rest: Any) -> None:
        raise ValueError("a DOCTYPE may give names to texts")


def _in_utf8(document: bytes) -> bytes:
    """Return a document in UTF-8, saying nothing of another encoding."""
    if document.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        document = document.decode("utf-16").encode()
        return _DECLARATION.sub(rb"\1", document, count=1)
    declared = _DECLARATION.match(document.removeprefix(codecs.BOM_UTF8))
    if declared is None or declared[2].lower() in (b"utf-8", b"utf8", b"us-ascii"):
        return document
    decoded = document.decode(declared[2].decode()).encode()
    return _DECLARATION.sub(rb"\1", decoded, count=1)


def joined(intervals: Iterable[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    """Return intervals in their order, those that touch as one."""
    ordered: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if ordered and start <= ordered[-1][1]:
            ordered[-1] = ordered[-1][0], max(end, ordered[-1][1])
        else:
            ordered.append((start, end))
    return ordered
