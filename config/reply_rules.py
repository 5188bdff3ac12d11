"""What replies mean: rules in order, of which the first that fits decides.

A deployer's own come before the interface's table, `config/rules.toml`, which is also their manual.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

from lxml import etree
from pydantic import BeforeValidator, Field, field_validator, model_validator

from orderflow_outbox import Answer, Catalogue

from .values import Duration, Strict

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
REASON = re.compile(r"[a-z][a-z0-9_]*")
MAX_NAME_CHARACTERS = 64
ANY_FAILURE = "any"
REASON_PLACES = frozenset({"status", "failure"})
TEXT_PLACES = frozenset({"status", "failure", "title", "content_type", "bytes", "words"})

_STATUS = re.compile(r"(?P<first>[1-5])xx|(?P<low>[1-5][0-9][0-9])(?:-(?P<high>[1-5][0-9][0-9]))?")
_PLACE = re.compile(r"\{([^{}]*)\}")
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+*-]+/[A-Za-z0-9!#$&^_.+*-]+")


class VerdictName(StrEnum):
    """What a rule decides."""

    DELIVERED = "delivered"
    RETRY = "retry"
    REFUSED = "refused"
    HOLD = "hold"
    PER_ITEM = "per-item"


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


def _expression(value: str) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except re.error as error:
        raise ValueError(f"it is no regular expression ({error})") from None


def _text_of_expression(value: Any) -> Any:
    if isinstance(value, str):
        _expression(value)
    return value


Statuses = Annotated[frozenset[int], BeforeValidator(_statuses)]
Expression = Annotated[str, BeforeValidator(_text_of_expression)]
Names = Annotated[list[str], Field(min_length=1)]


class ReplyRule(Strict):
    """One rule: where it applies, its conditions, its verdict, and what is told of it."""

    name: str
    operations: Names | None = None
    destinations: Names | None = None

    status: Statuses | None = None
    content_type: Names | None = None
    header: Mapping[str, Expression] | None = Field(default=None, min_length=1)
    xml: bool | None = None
    root: Names | None = None
    xpath: str | None = None
    text: Expression | None = None
    min_bytes: int | None = Field(default=None, ge=0)
    max_bytes: int | None = Field(default=None, ge=0)
    complete: bool | None = None
    answer: Annotated[list[Answer], Field(min_length=1)] | None = None
    failure: (
        Annotated[
            list[Literal["any", "bad_certificate", "connect_failed", "connection_lost", "timeout"]],
            Field(min_length=1),
        ]
        | None
    ) = None
    in_doubt: bool | None = None

    verdict: VerdictName
    systemic: bool = False
    after: Duration | None = None
    reason: str = "http_{status}"
    text_from: list[str] = Field(default_factory=list)
    says: str = "HTTP {status} {title}"

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not NAME.fullmatch(value) or len(value) > MAX_NAME_CHARACTERS:
            raise ValueError(
                f"use lower-case words joined by hyphens, {MAX_NAME_CHARACTERS} characters at most"
            )
        return value

    @field_validator("content_type")
    @classmethod
    def _are_media_types(cls, value: list[str] | None) -> list[str] | None:
        for each in value or ():
            if not _MEDIA_TYPE.fullmatch(each):
                raise ValueError(f'{each!r} is no media type: write it as "text/html" or "text/*"')
        return value

    @field_validator("reason")
    @classmethod
    def _is_a_code(cls, value: str) -> str:
        _check_places(value, REASON_PLACES)
        if not REASON.fullmatch(_PLACE.sub("x", value)) or len(value) > MAX_NAME_CHARACTERS:
            raise ValueError('use lower-case letters, digits and _, as in "no_stock" or "http_{status}"')
        return value

    @field_validator("says")
    @classmethod
    def _has_places(cls, value: str) -> str:
        _check_places(value, TEXT_PLACES)
        return value

    @model_validator(mode="after")
    def _conditions_go_together(self) -> ReplyRule:
        of_documents = [name for name in ("root", "xpath") if getattr(self, name) is not None]
        if self.failure is not None and (named := self._conditions() - {"failure", "in_doubt"}):
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
        if self.verdict is VerdictName.PER_ITEM and self.failure is not None:
            raise ValueError("per-item needs an answer, and failure has none: choose another verdict")
        return self

    def _conditions(self) -> set[str]:
        """Return the names of its conditions."""
        return {name for name in CONDITIONS if getattr(self, name) is not None}

    @property
    def is_unconditional(self) -> bool:
        """Whether it fits every answer, or every lack of one."""
        return not self._conditions() or (self.failure == [ANY_FAILURE] and self.in_doubt is None)

    def covers(self, other: ReplyRule) -> bool:
        """Tell whether it is asked wherever `other` is, so that behind it `other` would never be."""
        return (
            (self.failure is None) == (other.failure is None)
            and _includes(self.operations, other.operations)
            and _includes(self.destinations, other.destinations)
        )

    def applies_to(self, destination: str, operation: str) -> bool:
        """Tell whether it is asked of this operation's replies at this destination."""
        return _includes(self.operations, [operation]) and _includes(self.destinations, [destination])


CONDITIONS = (
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


class RulesFile(Strict):
    """A file of rules; prefixes of namespaces are the file's own."""

    namespaces: Mapping[str, str] = Field(default_factory=dict)
    rules: list[ReplyRule] = Field(default_factory=list)

    def problems(self, catalogue: Catalogue, destinations: Iterable[str]) -> list[str]:
        """Return what is wrong with it, each with its place: what one rule alone cannot know."""
        known = {"operations": sorted(catalogue), "destinations": sorted(destinations)}
        found = []
        for place, rule in enumerate(self.rules):
            where = f"rules.{place} ({rule.name})"
            found += [f"{where}: {problem}" for problem in self._problems_of(rule, known)]
            for before, earlier in enumerate(self.rules[:place]):
                if earlier.name == rule.name:
                    found.append(f"{where}: rules.{before} has that name already: choose another")
                if earlier.is_unconditional and earlier.covers(rule):
                    found.append(
                        f"{where}: it would never be asked, since rules.{before} ({earlier.name}) before it "
                        "has no condition: move it up, or take it out"
                    )
        return found

    def _problems_of(self, rule: ReplyRule, known: Mapping[str, Sequence[str]]) -> list[str]:
        found = [
            f"{key} names {name!r}, which nobody knows: choose of {', '.join(names)}"
            for key, names in known.items()
            for name in getattr(rule, key) or ()
            if name not in names
        ]
        if rule.xpath is not None and (problem := self._wrong_with(rule.xpath)):
            found.append(f"xpath is {rule.xpath!r}: {problem}")
        for each in rule.text_from:
            problem = _wrong_with_expression(each) if is_expression(each) else self._wrong_with(each)
            if problem:
                found.append(f"text_from is {each!r}: {problem}")
        return found

    def _wrong_with(self, xpath: str) -> str:
        """Return what is wrong with an XPath; nothing where it is one."""
        try:
            compiled = etree.XPath(xpath, namespaces=dict(self.namespaces))
            compiled(etree.Element("any"))
        except etree.XPathError as error:
            return f"it is no XPath ({error}); prefixes stand in a table [namespaces]"
        except (TypeError, ValueError) as error:
            return f"it is no XPath ({error})"
        return ""


def is_expression(lift: str) -> bool:
    """Tell whether `text_from` holds a regular expression, between slashes, and not an XPath."""
    return len(lift) > 2 and lift.startswith("/") and lift.endswith("/")


def _wrong_with_expression(lift: str) -> str:
    try:
        _expression(lift[1:-1])
    except ValueError as error:
        return str(error)
    return ""


def _check_places(text: str, places: Iterable[str]) -> None:
    for name in _PLACE.findall(text):
        if name not in places:
            raise ValueError(
                f"{{{name}}} is no place: use {', '.join(f'{{{each}}}' for each in sorted(places))}"
            )
    if {"{", "}"} & set(_PLACE.sub("", text)):
        raise ValueError("a brace stands alone: write a place such as {status}")


def _includes(wider: Sequence[str] | None, narrower: Sequence[str] | None) -> bool:
    return wider is None or (narrower is not None and set(narrower) <= set(wider))


def _listed(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))
