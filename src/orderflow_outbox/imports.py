"""The `<imports>` document: built from Python values, and read back to what it was built from.

document = imports([Order("SO-1001", {"state": "created", "orderLine": [{"quantity": 2}]})])
assert read_imports(document)[0].fields["orderLine.1.quantity"] == "2"
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from xml.parsers import expat

from .documents import MAX_PAYLOAD_BYTES, read_document
from .errors import InvalidPayload, PayloadTooLarge
from .items import Import, item_of
from .lines import Record, is_record, named_values, read_lines, written
from .operations import Operation, Scope

XML_BLANKS = " \t\r\n"
ATTRIBUTES = ("type", "operation", "externalReference")
ANY_IMPORT = Operation("any-import", "imports/importitems.xml", Scope.CHANNEL, body_root="imports")
IN_AN_ATTRIBUTE = str.maketrans(
    {"&": "&amp;", "<": "&lt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)


def imports(items: Iterable[Import | Mapping[str, Any] | Record]) -> bytes:
    """Return the document holding the items, ready for `enqueue`.

    Args:
        items: at least one `Import`; or a mapping or dataclass instance with the lines and, beside them,
            `type`, `externalReference` and `operation` (`insert` when there is none).

    Raises:
        InvalidPayload: there is no item, or one that the document cannot say exactly.
        PayloadTooLarge: the document has more bytes than a message may carry.
    """
    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
        raise InvalidPayload("items", items, "give a list of Import, mappings or dataclass instances")
    elements = [_element(_item(place, item)) for place, item in enumerate(items)]
    if not elements:
        raise InvalidPayload("items", elements, "give at least one")
    document = "<imports>\n{}\n</imports>\n".format("\n".join(elements)).encode()
    if len(document) > MAX_PAYLOAD_BYTES:
        fix = f"at most {MAX_PAYLOAD_BYTES} bytes are sent; make several documents"
        raise PayloadTooLarge("items", f"{len(document)} bytes", fix)
    return document


def _item(place: int, given: Import | Mapping[str, Any] | Record) -> Import:
    if isinstance(given, Import):
        return given
    if isinstance(given, Mapping):
        content = dict(given)
    elif is_record(given):
        content = dict(named_values(given))
    else:
        raise InvalidPayload(f"items[{place}]", given, "give an Import, a mapping or a dataclass instance")
    kind, operation, reference = (content.pop(name, None) for name in ATTRIBUTES)
    operation = "insert" if operation is None else operation
    return item_of(f"items[{place}].", kind, reference, content, operation)


def _element(item: Import) -> str:
    given = zip(ATTRIBUTES, (item.type, item.operation, item.external_reference), strict=True)
    attributes = " ".join(
        f'{name}="{value.translate(IN_AN_ATTRIBUTE)}"' for name, value in given if value is not None
    )
    if not item.fields:
        return f"<import {attributes}/>"
    text = written(item.fields).replace("]]>", "]]]]><![CDATA[>")
    return f"<import {attributes}><![CDATA[{text}]]></import>"


def read_imports(document: bytes) -> list[Import]:
    """Return the items of a document: `read_imports(imports(items)) == items`.

    It takes what `enqueue` takes, in CDATA or as text with entities, indented or not. Comments outside
    the items are passed over. What an `Import` cannot hold is refused: a line without `=`, a key
    given twice, another attribute or element, a comment inside an item, a missing `operation`.

    Raises:
        InvalidPayload: not a document of imports, or one that could not be read exactly.
        PayloadTooLarge: the document has more bytes than a message may carry.
    """
    read_document(ANY_IMPORT, document)
    reader = _Reader()
    reader.parser.Parse(document, True)
    return reader.items


class _Reader:
    """One pass of expat over a document that `enqueue` would take, gathering its items."""

    def __init__(self) -> None:
        self.items: list[Import] = []
        self.depth = 0
        self.attributes: dict[str, str] = {}
        self.text: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.CommentHandler = self._comment
        self.parser.ProcessingInstructionHandler = self._instruction

    @property
    def place(self) -> str:
        return f"items[{len(self.items)}]"

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        allowed = ATTRIBUTES if self.depth == 1 else ()
        if unknown := [each for each in attributes if each not in allowed]:
            fix = f"leave this attribute of <{name}> out"
            raise InvalidPayload("payload" if self.depth == 0 else self.place, unknown[0], fix)
        if self.depth > 1:
            raise InvalidPayload(self.place, f"<{name}>", "an <import> holds lines and no element")
        self.depth += 1
        self.attributes = attributes
        self.text = []

    def _end(self, name: str) -> None:
        self.depth -= 1
        if name == "import":
            kind, operation, reference = map(self.attributes.get, ATTRIBUTES)
            place = f"{self.place}."
            lines = read_lines(place, "".join(self.text))
            self.items.append(item_of(place, kind, reference, lines, operation))

    def _characters(self, text: str) -> None:
        if self.depth > 1:
            self.text.append(text)
        elif text.strip(XML_BLANKS):
            raise InvalidPayload("payload", text, "write lines inside an <import>, nothing beside it")

    def _comment(self, text: str) -> None:
        self._refuse_inside(f"<!--{text}-->")

    def _instruction(self, target: str, _data: str) -> None:
        self._refuse_inside(f"<?{target}?>")

    def _refuse_inside(self, found: str) -> None:
        if self.depth > 1:
            raise InvalidPayload(
                self.place, found, "an <import> holds lines; put this outside, or leave it out"
            )
