"""What replies mean: rules in order, of which the first that fits decides.

A deployer's own come before the interface's table, `config/rules.toml`, which is also their manual.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, StrictBool, field_validator, model_validator

from orderflow_outbox import Answer, Catalogue

from .rule import Expression, Names, Rule, problems_of
from .values import Duration, Strict

ANY_FAILURE = "any"
_STATUS = re.compile(r"(?P<first>[1-5])xx|(?P<low>[1-5][0-9][0-9])(?:-(?P<high>[1-5][0-9][0-9]))?")
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+*-]+/[A-Za-z0-9!#$&^_.+*-]+")

Failures = list[Literal["any", "bad_certificate", "connect_failed", "connection_lost", "timeout"]]


class VerdictName(StrEnum):
    """What a rule on a reply decides."""

    DELIVERED = "delivered"
    RETRY = "retry"
    REFUSED = "refused"
    HOLD = "hold"
    PER_ITEM = "per-item"


class ItemVerdict(StrEnum):
    """What a rule on an item decides."""

    DELIVERED = "delivered"
    RETRY = "retry"
    REFUSED = "refused"


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


class ReplyRule(Rule):
    """One rule on replies: where it applies, its conditions, its verdict, and what is told of it."""

    REASON_PLACES: ClassVar[frozenset[str]] = frozenset({"status", "failure"})
    TEXT_PLACES: ClassVar[frozenset[str]] = frozenset(
        {"status", "failure", "title", "content_type", "bytes", "words"}
    )
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
        "complete",
        "answer",
        "failure",
        "in_doubt",
    )

    status: Annotated[frozenset[int], BeforeValidator(_statuses)] | None = None
    content_type: Names | None = None
    header: Mapping[str, Expression] | None = Field(default=None, min_length=1)
    xml: StrictBool | None = None
    root: Names | None = None
    min_bytes: int | None = Field(default=None, ge=0, strict=True)
    max_bytes: int | None = Field(default=None, ge=0, strict=True)
    complete: StrictBool | None = None
    answer: Annotated[list[Answer], Field(min_length=1)] | None = None
    failure: Annotated[Failures, Field(min_length=1)] | None = None

    verdict: VerdictName
    systemic: StrictBool = False
    after: Duration | None = None
    reason: str = "http_{status}"
    says: str = "HTTP {status} {title}"

    @field_validator("content_type")
    @classmethod
    def _are_media_types(cls, value: list[str] | None) -> list[str] | None:
        for each in value or ():
            if not _MEDIA_TYPE.fullmatch(each):
                raise ValueError(f'{each!r} is no media type: write it as "text/html" or "text/*"')
        return value

    @model_validator(mode="after")
    def _conditions_go_together(self) -> ReplyRule:
        of_documents = [name for name in ("root", "xpath") if getattr(self, name) is not None]
        if self.failure is not None and (named := self.conditions() - {"failure", "in_doubt"}):
            raise ValueError(
                f"failure and {_listed(named)} exclude each other: without an answer there is none"
            )
        if of_documents and self.xml is False:
            raise ValueError(f"xml = false and {_listed(of_documents)} exclude each other: take one out")
        if self.complete is False and (of_documents or self.xml):
            raise ValueError(
                f"complete = false and {_listed(of_documents or ['xml'])} exclude each other: what broke off "
                "is not read as XML"
            )
        if self.min_bytes is not None and self.max_bytes is not None and self.min_bytes > self.max_bytes:
            raise ValueError("min_bytes and max_bytes exclude each other: no size is between them")
        if self.verdict is not VerdictName.RETRY and (self.systemic or self.after is not None):
            raise ValueError(f"systemic and after belong to retry: take them out, or change {self.verdict}")
        if self.verdict is VerdictName.PER_ITEM and (self.failure is not None or self.xml is False):
            raise ValueError("per-item needs a report, and here is none: choose another verdict")
        return self

    def leaves_nothing_to(self, other: Rule) -> bool:
        """Tell whether it fits wherever `other` would: an answer is another thing than the lack of one."""
        return (
            isinstance(other, ReplyRule)
            and (self.failure is None) == (other.failure is None)
            and super().leaves_nothing_to(other)
        )

    def _holds_with(self, name: str, other: Rule) -> bool:
        return (name == "failure" and ANY_FAILURE in (self.failure or ())) or super()._holds_with(name, other)


class ItemRule(Rule):
    """One rule on the report of an item, asked where a reply is judged per item."""

    REASON_PLACES: ClassVar[frozenset[str]] = frozenset()
    TEXT_PLACES: ClassVar[frozenset[str]] = frozenset({"reference", "words"})
    CONDITIONS: ClassVar[tuple[str, ...]] = ("group", "xpath", "text", "in_doubt")

    group: Names | None = None
    verdict: ItemVerdict
    says: str = "{words}"


class RulesFile(Strict):
    """A file of rules; prefixes of namespaces are the file's own."""

    namespaces: Mapping[str, str] = Field(default_factory=dict)
    rules: list[ReplyRule] = Field(default_factory=list)
    items: list[ItemRule] = Field(default_factory=list)

    def problems(self, catalogue: Catalogue, destinations: Iterable[str]) -> list[str]:
        """Return what is wrong with it, each with its place: what one rule alone cannot know."""
        known = {"operations": sorted(catalogue), "destinations": sorted(destinations)}
        return [
            *problems_of("rules", self.rules, known, self.namespaces),
            *problems_of("items", self.items, known, self.namespaces),
        ]


def _listed(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))
