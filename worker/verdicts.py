"""What a reply means: one of four verdicts, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


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
    """

    why: Why
    systemic: bool
    not_before: timedelta | None = None
    after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Never: sending the same again would be refused again."""

    why: Why


@dataclass(frozen=True, slots=True)
class Hold:
    """The destination turns everyone away; no fault of the message, which spends no try."""

    why: Why


Verdict = Delivered | RetryLater | Refused | Hold

_WORDS = {Delivered: "delivered", RetryLater: "retry", Refused: "refused", Hold: "hold"}


def word_of(verdict: Verdict) -> str:
    """Return the word for a verdict: in the log of attempts, in rules, and for people."""
    return _WORDS[type(verdict)]
