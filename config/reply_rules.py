"""What replies mean: rules in order, of which the first that fits decides.

A deployer's own come before the interface's table, `config/rules.toml`, which is also their manual.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictBool, model_validator

from orderflow_outbox import Answer, Catalogue

from .answer_rule import AnswerRule, listed
from .rule import Names, Rule, problems_of
from .values import Duration, Strict

ANY_FAILURE = "any"

Failures = list[
    Literal["any", "address_refused", "bad_certificate", "connect_failed", "connection_lost", "timeout"]
]

FAILURES = frozenset({"address_refused", "bad_certificate", "connect_failed", "connection_lost", "timeout"})


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


class ReplyRule(AnswerRule):
    """One rule on replies: where it applies, its conditions, its verdict, and what is told of it."""

    REASON_PLACES: ClassVar[frozenset[str]] = AnswerRule.REASON_PLACES | {"failure"}
    TEXT_PLACES: ClassVar[frozenset[str]] = AnswerRule.TEXT_PLACES | {"failure"}
    CONDITIONS: ClassVar[tuple[str, ...]] = (
        *AnswerRule.CONDITIONS,
        "complete",
        "answer",
        "failure",
        "in_doubt",
    )

    complete: StrictBool | None = None
    answer: Annotated[list[Answer], Field(min_length=1)] | None = None
    failure: Annotated[Failures, Field(min_length=1)] | None = None
    in_doubt: StrictBool | None = None

    verdict: VerdictName
    systemic: StrictBool = False
    after: Duration | None = None
    reason: str = "http_{status}"
    says: str = "HTTP {status} {title}"

    @model_validator(mode="after")
    def _conditions_go_together(self) -> ReplyRule:
        of_documents = self.of_documents()
        if self.failure is not None and (named := self.conditions() - {"failure", "in_doubt"}):
            raise ValueError(
                f"failure and {listed(named)} exclude each other: without an answer there is none"
            )
        if self.complete is False and (of_documents or self.xml):
            raise ValueError(
                f"complete = false and {listed(of_documents or ['xml'])} exclude each other: what broke off "
                "is not read as XML"
            )
        if self.verdict is not VerdictName.RETRY and (self.systemic or self.after is not None):
            raise ValueError(f"systemic and after belong to retry: take them out, or change {self.verdict}")
        unread = self.xml is False or self.complete is False or self.max_bytes == 0
        if self.verdict is VerdictName.PER_ITEM and (self.failure is not None or unread):
            raise ValueError("per-item needs a report, and here is none: choose another verdict")
        told = sorted(self.model_fields_set & {"reason", "says", "text_from"})
        if self.verdict is VerdictName.PER_ITEM and told:
            raise ValueError(f"{told[0]} is told by the rules of [[items]], and not by per-item: take it out")
        return self

    def leaves_nothing_to(self, other: Rule) -> bool:
        """Tell whether it fits wherever `other` would: an answer is another thing than the lack of one."""
        return (
            isinstance(other, ReplyRule)
            and (self.failure is None) == (other.failure is None)
            and super().leaves_nothing_to(other)
        )

    def _holds_with(self, name: str, other: Rule) -> bool:
        failures = set(self.failure or ())
        every = name == "failure" and (ANY_FAILURE in failures or failures >= FAILURES)
        return every or super()._holds_with(name, other)


class ItemRule(Rule):
    """One rule on the report of an item, asked where a reply is judged per item."""

    REASON_PLACES: ClassVar[frozenset[str]] = frozenset()
    TEXT_PLACES: ClassVar[frozenset[str]] = frozenset({"reference", "words"})
    CONDITIONS: ClassVar[tuple[str, ...]] = ("group", "xpath", "text", "in_doubt")

    group: Names | None = None
    in_doubt: StrictBool | None = None
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
            *_never_answered_so(self.rules, catalogue),
            *problems_of("rules", self.rules, known, self.namespaces),
            *problems_of("items", self.items, known, self.namespaces),
        ]


def shadowing(files: Sequence[RulesFile]) -> list[str]:
    """Return the names of rules that fit every answer, so that the files behind theirs are never asked."""
    return [
        rule.name
        for place, file in enumerate(files[:-1])
        for rule in file.rules
        if rule.failure is None
        and all(
            rule.leaves_nothing_to(each)
            for behind in files[place + 1 :]
            for each in behind.rules
            if each.failure is None
        )
    ]


def _never_answered_so(rules: Iterable[ReplyRule], catalogue: Catalogue) -> list[str]:
    """Return the rules on a kind of answer that none of their operations names as a good one."""
    return [
        f"rules.{place} ({rule.name}): none of its operations is answered by {listed(rule.answer)}: mend it"
        for place, rule in enumerate(rules)
        if rule.answer is not None
        and rule.operations is not None
        and all(catalogue[each].answer not in rule.answer for each in rule.operations if each in catalogue)
    ]
