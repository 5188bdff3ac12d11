"""The `key=value` lines of an import: flattened from Python values, written, and read back.

A key is camelCase names and numbers joined by dots: `{"orderLine": [{"quantity": 2}]}` makes the line
`orderLine.1.quantity=2`. A line break inside a value is written `[BR]`. What has no exact form in a line
is refused, never bent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, ClassVar, Protocol, TypeGuard

from .documents import MAX_DEPTH
from .errors import InvalidPayload

LINE_BREAK = "[BR]"
BLANKS = " \t"
MAX_NUMBER_PLACES = 400  # every float has fewer
KEY = re.compile(r"[a-z][A-Za-z0-9]*(\.([a-z][A-Za-z0-9]*|0|[1-9][0-9]*))*")
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Record(Protocol):
    """Any instance of a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def is_record(value: object) -> TypeGuard[Record]:
    """Tell whether `value` is an instance of a dataclass."""
    return is_dataclass(value) and not isinstance(value, type)


def named_values(record: Record) -> list[tuple[str, object]]:
    """Return what a dataclass instance holds under camelCase names: `total_price` is `totalPrice`.

    Raises:
        InvalidPayload: two names become the same.
    """
    return [(name, getattr(record, attribute)) for attribute, name in _names(type(record))]


@lru_cache(maxsize=256)
def _names(kind: type[Record]) -> tuple[tuple[str, str], ...]:
    names = {_camel_case(each.name): each.name for each in fields(kind)}
    if len(names) < len(fields(kind)):
        given = [each.name for each in fields(kind)]
        raise InvalidPayload(kind.__name__, given, "two of these are the same name in camelCase; rename one")
    return tuple((attribute, name) for name, attribute in names.items())


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def refuse_characters(where: str, text: str) -> None:
    """Refuse a character that XML 1.0 cannot carry, not even escaped.

    Raises:
        InvalidPayload: with the character and its neighbours as the value.
    """
    if found := NOT_XML.search(text):
        near = text[max(0, found.start() - 10) : found.end() + 10]
        raise InvalidPayload(where, near, f"remove U+{ord(found[0]):04X}: XML has no such character")


def flat(place: str, content: object, item: type) -> dict[str, str]:
    """Return the lines, key to value, that a mapping or a dataclass instance makes.

    Args:
        place: begins the field of an error, such as `items[3].`.
        item: the class whose instances are whole imports, and so no content of one.

    Raises:
        InvalidPayload: something in `content` has no exact form in lines.
    """
    if not isinstance(content, Mapping) and (isinstance(content, item) or not is_record(content)):
        raise InvalidPayload(f"{place}fields", content, "give a mapping or an instance of a dataclass")
    flattening = _Flattening(place, item)
    flattening.add_all("", flattening.parts("", content))
    return flattening.lines


class _Flattening:
    """The lines found so far, and what an error has to name."""

    def __init__(self, place: str, item: type) -> None:
        self.place = place
        self.item = item
        self.lines: dict[str, str] = {}

    def refused(self, key: str, value: object, fix: str) -> InvalidPayload:
        return InvalidPayload(f"{self.place}fields[{key!r}]", value, fix)

    def add_all(self, key: str, parts: list[tuple[object, object]]) -> None:
        for name, value in parts:
            if isinstance(name, str):
                self.add(f"{key}.{str.__str__(name)}" if key else str.__str__(name), value)
            elif type(name) is int and key:
                self.add_numbered(f"{key}.{name}", value)
            else:
                raise self.refused(key, name, "names are text")

    def add_numbered(self, key: str, value: object) -> None:
        before = len(self.lines)
        self.add(key, value)
        if len(self.lines) == before:
            raise self.refused(key, value, "this entry leaves no line, and so a gap; take it out")

    def add(self, key: str, value: object) -> None:
        while isinstance(value, Enum):
            value = value.value
        if isinstance(value, str | int | float | Decimal | date) or value is None:
            self.add_line(key, value)
        elif key.count(".") >= MAX_DEPTH:
            raise self.refused(key, type(value).__name__, f"nest at most {MAX_DEPTH} deep")
        elif parts := self.parts(key, value):
            self.add_all(key, parts)
        else:
            raise self.refused(key, value, "emptiness has no line; leave it out, or give None")

    def parts(self, key: str, value: object) -> list[tuple[object, object]]:
        if isinstance(value, Mapping):
            return list(value.items())
        # The names of a NamedTuple would be lost.
        if isinstance(value, list) or type(value) is tuple:
            return list(enumerate(value, 1))
        if is_record(value) and not isinstance(value, self.item):
            return [*named_values(value)]
        raise self.refused(
            key,
            value,
            "give str, int, bool, Decimal, float, date, datetime, Enum, None, "
            "or nest a mapping, list, tuple or dataclass instance",
        )

    def add_line(self, key: str, value: str | float | Decimal | date | None) -> None:
        if not KEY.fullmatch(key):
            raise self.refused(
                key, value, "join camelCase names (first letter lower case) and numbers by dots"
            )
        if key in self.lines:
            raise self.refused(key, value, "this key is given twice; give it once")
        if value is not None:
            self.lines[key] = self.text(key, value)

    def text(self, key: str, value: str | float | Decimal | date) -> str:
        if isinstance(value, str):
            return self.kept(key, str.__str__(value))
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, datetime):
            if value.tzinfo is not None:
                fix = "a line has no time zone: give value.astimezone(OrderFlow's zone).replace(tzinfo=None)"
                raise self.refused(key, value, fix)
            return value.isoformat(" ", "seconds")
        if isinstance(value, date):
            return value.isoformat()
        return self.number(
            key, Decimal(float.__repr__(value)) if isinstance(value, float) else Decimal(value)
        )

    def kept(self, key: str, value: str) -> str:
        if LINE_BREAK in value:
            fix = f"remove {LINE_BREAK}: it would be read as a line break; write a line break as \\n"
            raise self.refused(key, value, fix)
        refuse_characters(f"{self.place}fields[{key!r}]", value)
        return value.replace("\r\n", "\n").replace("\r", "\n")

    def number(self, key: str, value: Decimal) -> str:
        if not value.is_finite():
            raise self.refused(key, value, "give a finite number")
        if abs(value.adjusted()) > MAX_NUMBER_PLACES:
            raise self.refused(key, value, f"give a number of at most {MAX_NUMBER_PLACES} places")
        return f"{value:f}"


def written(lines: Mapping[str, str]) -> str:
    """Return the lines as the text of an `<import>`."""
    return "\n".join([f"{key}={value}".replace("\n", LINE_BREAK) for key, value in lines.items()])


def read_lines(place: str, text: str) -> dict[str, str]:
    """Return the lines in the text of an `<import>`, key to value.

    Blanks before and after a key, lines of blanks and one CR at the end of a line are no content.

    Raises:
        InvalidPayload: a line without `=`, a key given twice, or a CR inside a value.
    """
    lines: dict[str, str] = {}
    for line in text.split("\n"):
        if not line.strip(BLANKS + "\r"):
            continue
        key, sign, value = line.removesuffix("\r").partition("=")
        key = key.strip(BLANKS)
        if not sign:
            raise InvalidPayload(
                f"{place}fields", line, f"write key=value, and {LINE_BREAK} for a line break"
            )
        if key in lines:
            raise InvalidPayload(f"{place}fields[{key!r}]", value, "this key is given twice; give it once")
        if "\r" in value:
            raise InvalidPayload(
                f"{place}fields[{key!r}]", value, f"write {LINE_BREAK} for a line break, in place of the CR"
            )
        lines[key] = value.replace(LINE_BREAK, "\n")
    return lines
