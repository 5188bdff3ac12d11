"""Reads the ``<imports>`` document of a request body."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.parsers import expat

_ORDER_LINE_PRODUCT = re.compile(r"^\s*orderLine\.\d+\.product\.externalReference=(.*)$", re.MULTILINE)


class DocumentRefused(ValueError):
    """The body is not an ``<imports>`` document."""


@dataclass(frozen=True, slots=True)
class Item:
    """One ``<import>``."""

    type: str
    operation: str
    reference: str
    text: str

    def products(self) -> list[str]:
        """The products that the lines of an order name, in order."""
        return [sku.strip() for sku in _ORDER_LINE_PRODUCT.findall(self.text)]


def read_imports(body: bytes) -> tuple[Item, ...]:
    """The items of a document, at least one; DocumentRefused tells what is wrong with it."""
    reader = _Reader()
    try:
        reader.parser.Parse(body, True)
    except expat.ExpatError as error:
        raise DocumentRefused(f"The document cannot be read: {error}") from None
    except (LookupError, ValueError) as error:
        # expat hands on what Python says of an encoding it does not know.
        raise DocumentRefused(str(error)) from None
    if not reader.items:
        raise DocumentRefused("The document holds no <import>")
    return tuple(reader.items)


class _Reader:
    def __init__(self) -> None:
        self.items: list[Item] = []
        self._depth = 0
        self._attributes: dict[str, str] = {}
        self._text: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters

    def _doctype(self, *_declaration: object) -> None:
        # Entities are declared in a DOCTYPE: without one, none can be expanded or fetched.
        raise DocumentRefused("A document with a DOCTYPE is not accepted")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        allowed = ("imports", "import")
        if self._depth >= len(allowed) or name != allowed[self._depth]:
            raise DocumentRefused(f"Unexpected element <{name}>")
        self._depth += 1
        self._attributes = attributes
        self._text = []

    def _end(self, name: str) -> None:
        self._depth -= 1
        if name == "import":
            read = self._attributes.get
            reference = read("externalReference", "").strip()
            self.items.append(Item(read("type", ""), read("operation", ""), reference, "".join(self._text)))

    def _characters(self, text: str) -> None:
        self._text.append(text)
