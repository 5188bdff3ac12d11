"""What every rule on a whole answer has: conditions on its status, its type, its document and its size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, StrictBool, field_validator, model_validator

from orderflow_outbox.operations import ELEMENT_NAME

from .rule import Expression, Names, Rule

_STATUS = re.compile(r"(?P<first>[1-5])xx|(?P<low>[1-5][0-9][0-9])(?:-(?P<high>[1-5][0-9][0-9]))?")
EVERY_STATUS = frozenset(range(100, 600))
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+*-]+/[A-Za-z0-9!#$&^_.+*-]+")


def _statuses(value: Any) -> frozenset[int]:
    """Return the statuses that a list such as [404, "5xx", "400-404"] names."""
    if not isinstance(value, list) or not value:
        raise ValueError('give a list, such as [404, "5xx", "400-404"]')
    found: set[int] = set()
    for each in value:
        match = None if isinstance(each, bool) else _STATUS.fullmatch(str(each))
        if match is None:
            raise ValueError(f'{each!r} is no status: write 404, "5xx" or "400-404"')
        if match["first"]:
            low, high = int(match["first"]) * 100, int(match["first"]) * 100 + 99
        else:
            low, high = int(match["low"]), int(match["high"] or match["low"])
        if low > high:
            raise ValueError(f"{each!r} ends before it begins")
        found.update(range(low, high + 1))
    return frozenset(found)


class AnswerRule(Rule):
    """A rule on a whole answer: what it asks of it."""

    REASON_PLACES: ClassVar[frozenset[str]] = frozenset({"status"})
    TEXT_PLACES: ClassVar[frozenset[str]] = frozenset({"status", "title", "content_type", "bytes", "words"})
    CONDITIONS: ClassVar[tuple[str, ...]] = (
        "status",
        "content_type",
        "header",
        "xml",
        "root",
        "xpath",
        "text",
        "min_bytes",
        "max_bytes",
    )

    status: Annotated[frozenset[int], BeforeValidator(_statuses)] | None = None
    content_type: Names | None = None
    header: Mapping[str, Expression] | None = Field(default=None, min_length=1)
    xml: StrictBool | None = None
    root: Names | None = None
    min_bytes: int | None = Field(default=None, ge=0, strict=True)
    max_bytes: int | None = Field(default=None, ge=0, strict=True)

    @field_validator("content_type")
    @classmethod
    def _are_media_types(cls, value: list[str] | None) -> list[str] | None:
        for each in value or ():
            if not _MEDIA_TYPE.fullmatch(each):
                raise ValueError(f'{each!r} is no media type: write it as "text/html" or "text/*"')
        return value

    @field_validator("root")
    @classmethod
    def _are_local_names(cls, value: list[str] | None) -> list[str] | None:
        for each in value or ():
            if not ELEMENT_NAME.fullmatch(each):
                raise ValueError(f"{each!r} is no name: leave prefix and namespace out, which may be any")
        return value

    @model_validator(mode="after")
    def _answers_can_meet_it(self) -> Self:
        of_documents = self.of_documents()
        if of_documents and self.xml is False:
            raise ValueError(f"xml = false and {listed(of_documents)} exclude each other: take one out")
        if self.max_bytes == 0 and (of_documents or self.xml or self.text):
            raise ValueError(
                f"max_bytes = 0 and {listed(of_documents or ['xml' if self.xml else 'text'])} exclude each "
                "other: there is nothing in it"
            )
        if self.min_bytes is not None and self.max_bytes is not None and self.min_bytes > self.max_bytes:
            raise ValueError("min_bytes and max_bytes exclude each other: no size is between them")
        return self

    def _holds_with(self, name: str, other: Rule) -> bool:
        own, others = getattr(self, name), getattr(other, name, None)
        match name:
            case "status" if own == EVERY_STATUS:
                return True
            case "content_type" if others is not None:
                return all(any(fnmatchcase(each, pattern) for pattern in own) for each in others)
            case "min_bytes" if others is not None:
                return bool(own <= others)
            case "max_bytes" if others is not None:
                return bool(own >= others)
            case _:
                return super()._holds_with(name, other)

    def of_documents(self) -> list[str]:
        """Return the names of its conditions that only XML can meet."""
        return [name for name in ("root", "xpath") if getattr(self, name) is not None]


def listed(names: Iterable[str]) -> str:
    """Return names as they stand in a sentence."""
    return " and ".join(sorted(names))
