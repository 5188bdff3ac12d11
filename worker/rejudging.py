"""Judging stored replies by other rules: which past verdicts would be others, before the rules go live."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from orderflow_outbox import Operation

from .rules import Judge
from .store.replies import StoredReply
from .verdicts import SPLIT, Judgement, word_of


@dataclass(frozen=True, slots=True)
class Rejudged:
    """A stored reply, and what other rules make of it.

    Attributes:
        now: the verdict of the other rules; None where it cannot be told.
        untold: why it cannot be told.
    """

    stored: StoredReply
    now: Judgement | None
    untold: str = ""

    @property
    def flips(self) -> bool:
        """Whether the message would have gone another way, or been split otherwise than it was."""
        if self.now is None:
            return False
        verdict, stored = self.now.verdict, self.stored
        splits = verdict.why.reason == SPLIT, stored.reason == SPLIT
        return word_of(verdict) != stored.verdict or splits[0] is not splits[1]


def rejudge(
    replies: Iterable[StoredReply], judge: Judge, catalogue: Mapping[str, Operation]
) -> Iterator[Rejudged]:
    """Judge stored replies by other rules, one after the other."""
    for stored in replies:
        operation = catalogue.get(stored.operation)
        if operation is None:
            yield Rejudged(stored, None, f"this service knows no operation {stored.operation!r}")
        elif not stored.is_whole:
            yield Rejudged(stored, None, "its reply is stored in part")
        else:
            yield Rejudged(stored, judged_again(stored, judge, operation))


def judged_again(stored: StoredReply, judge: Judge, operation: Operation) -> Judgement:
    """Return what the rules make of a stored reply, as at the moment when it came."""
    return judge.judge(
        stored.reply, stored.destination, operation, stored.in_doubt, stored.judged_at, stored.payload
    )
