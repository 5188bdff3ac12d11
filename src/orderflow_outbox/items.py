"""One `<import>` of a document as a Python value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .documents import INTERFACE_NAME
from .errors import InvalidPayload
from .lines import Record, flat, refuse_characters

OPERATIONS = ("insert", "update", "merge")


@dataclass(frozen=True, slots=True, init=False, eq=False)
class Import:
    """One item of an `<imports>` document. Items are equal when their content is, whatever their class.

    `fields` is given as a mapping or a dataclass instance, and kept as flat lines: mappings, lists, tuples
    and dataclass instances nest, so that `{"orderLine": [{"quantity": 2}]}` is kept as
    `{"orderLine.1.quantity": "2"}`. Lists are numbered from 1. Names are camelCase; the snake_case names of
    a dataclass become so. Values are

    - str, a line break in it `\\n`, `\\r\\n` or `\\r`, and kept as `\\n`
    - int, Decimal and finite float, written without an exponent; bool as `true` or `false`
    - date as `2026-11-01`, datetime as `2026-11-01 09:30:00`, microseconds dropped; a datetime with a time
      zone is refused, as a line cannot say which
    - Enum, as its value; None, which leaves the line out. An empty mapping or list is refused.

    Attributes:
        type: what is imported, in camelCase, such as `order`.
        external_reference: the shop's own name for it; None for no such attribute.
        fields: the lines, key to value, in their order.
        operation: `insert`, `update` or `merge`.

    Raises:
        InvalidPayload: the document could not say something exactly; names the field, the value, the fix.
    """

    type: str
    external_reference: str | None
    fields: Mapping[str, str]
    operation: str

    def __init__(
        self,
        type: str,
        external_reference: str | None,
        fields: Mapping[str, Any] | Record,
        operation: str = "insert",
    ) -> None:
        _fill(self, "", type, external_reference, fields, operation)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Import):
            return NotImplemented
        return _content(self) == _content(other)


def _content(item: Import) -> tuple[object, ...]:
    return item.type, item.external_reference, item.fields, item.operation


@dataclass(frozen=True, slots=True, init=False, eq=False)
class _KnownImport(Import):
    """An import whose class says its type."""

    known_type: ClassVar[str]
    type: str = field(init=False, repr=False)

    def __init__(
        self,
        external_reference: str | None,
        fields: Mapping[str, Any] | Record,
        operation: str = "insert",
    ) -> None:
        _fill(self, "", self.known_type, external_reference, fields, operation)


class Order(_KnownImport):
    """An `Import` of type `order`."""

    __slots__ = ()
    known_type = "order"


class Product(_KnownImport):
    """An `Import` of type `product`."""

    __slots__ = ()
    known_type = "product"


class Return(_KnownImport):
    """An `Import` of type `return`."""

    __slots__ = ()
    known_type = "return"


class StockMove(_KnownImport):
    """An `Import` of type `stockMoveTask`."""

    __slots__ = ()
    known_type = "stockMoveTask"


_KNOWN = {kind.known_type: kind for kind in (Order, Product, Return, StockMove)}


def item_of(place: str, kind: object, reference: object, content: object, operation: object) -> Import:
    """Return an item, in the class of its type where there is one.

    Args:
        place: begins the field of an error, such as `items[3].`.

    Raises:
        InvalidPayload: as for `Import`.
    """
    item = object.__new__(_KNOWN.get(_text(kind), Import))
    _fill(item, place, kind, reference, content, operation)
    return item


def _fill(
    item: Import, place: str, kind: object, reference: object, content: object, operation: object
) -> None:
    if not INTERFACE_NAME.fullmatch(_text(kind)):
        raise InvalidPayload(f"{place}type", kind, "say what is imported in camelCase, such as order")
    if reference is not None:
        if not _text(reference):
            raise InvalidPayload(
                f"{place}external_reference", reference, "give text, or None for no reference"
            )
        refuse_characters(f"{place}external_reference", _text(reference))
    if _text(operation) not in OPERATIONS:
        raise InvalidPayload(f"{place}operation", operation, f"choose one of {', '.join(OPERATIONS)}")
    object.__setattr__(item, "type", _text(kind))
    object.__setattr__(item, "external_reference", None if reference is None else _text(reference))
    object.__setattr__(item, "fields", flat(place, content, Import))
    object.__setattr__(item, "operation", _text(operation))


def _text(value: object) -> str:
    """Return text as plain str, whatever its class (it may be an Enum), and anything else as nothing."""
    return str.__str__(value) if isinstance(value, str) else ""
