"""What a reply means: one of four verdicts, each with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, TypeVar

MAX_NAMED_ITEMS = 5
DUPLICATE = "duplicate"
"""The reason of what OrderFlow has already."""
HAS_IT_ALREADY = "OrderFlow has it already, perhaps as it was before the edit: look there, then discard it"
SPLIT = "split"
"""The reason of a message whose items went different ways."""
NOT_MENTIONED = "not_mentioned"
"""The reason of an item that no report mentions."""
CHECK_UNCLEAR = "check_unclear"
"""The reason of a message in doubt whose check was answered by what none of its rules fits."""


@dataclass(frozen=True, slots=True)
class Why:
    """The reason of a verdict.

    Attributes:
        reason: a code, such as `items_failed`: what incidents are grouped by.
        text: one line for a person, often lifted from the reply.
        rule: the name of the rule that judged.
    """

    reason: str
    text: str
    rule: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """OrderFlow has it."""

    why: Why


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Not now.

    Attributes:
        systemic: True when the destination is at fault, False when the message may be.
        not_before: how long the receiver asked us to wait, if it did.
        after: the wait in place of the schedule's, where the rule has one of its own.
        spends_try: False where the message itself was not sent, but a check made.
    """

    why: Why
    systemic: bool
    not_before: timedelta | None = None
    after: timedelta | None = None
    spends_try: bool = True


@dataclass(frozen=True, slots=True)
class Refused:
    """Never: sending the same again would be refused again."""

    why: Why


@dataclass(frozen=True, slots=True)
class Hold:
    """The destination turns everyone away; no fault of the message, which spends no try."""

    why: Why


Verdict = Delivered | RetryLater | Refused | Hold
V = TypeVar("V", bound=Verdict)
OfOne = Delivered | RetryLater | Refused
"""What the report on one item may mean: it never holds a destination."""


def of_an_edit(verdict: V) -> V | Refused:
    """Return what a verdict is on a message whose document was edited.

    What was there already is not delivered: it may be there as it was before.
    """
    if isinstance(verdict, Delivered) and verdict.why.reason == DUPLICATE:
        return Refused(Why(DUPLICATE, HAS_IT_ALREADY, verdict.why.rule))
    return verdict


_WORDS = {Delivered: "delivered", RetryLater: "retry", Refused: "refused", Hold: "hold"}
VERDICT_WORDS = tuple(_WORDS.values())


def word_of(verdict: Verdict) -> str:
    """Return the word for a verdict: in the log of attempts, in rules, and for people."""
    return _WORDS[type(verdict)]


class ItemResult(NamedTuple):
    """What became of one item of a message.

    Attributes:
        place: where it stands in the message, from 1.
        reference: its externalReference.
        verdict: what the report on it means.
        mentioned: whether there was a report on it.
    """

    place: int
    reference: str
    verdict: OfOne
    mentioned: bool = True


class Judgement(NamedTuple):
    """What a reply means for a message, and for each of its items where it reports on them.

    Delivered may come with items that are not: these go on as messages of their own.
    """

    verdict: Verdict
    items: tuple[ItemResult, ...] = ()


def most_common_reason(items: Sequence[ItemResult]) -> str:
    """Return the reason that most items have."""
    return Counter(item.verdict.why.reason for item in items).most_common(1)[0][0]


def failures_in_words(items: Sequence[ItemResult], of: int) -> str:
    """Return which items failed, and why: those named that find room in one line.

    Args:
        items: those that failed.
        of: how many items there were.
    """
    named = "; ".join(f"{item.reference or '?'}: {item.verdict.why.text}" for item in items[:MAX_NAMED_ITEMS])
    more = f" and {len(items) - MAX_NAMED_ITEMS} more" if len(items) > MAX_NAMED_ITEMS else ""
    return f"{len(items)} of {of} items failed: {named}{more}"
