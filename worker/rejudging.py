"""Judging stored replies by other rules: which past verdicts would be others, before the rules go live."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from orderflow_outbox import Operation

from .rules import Judge
from .store.replies import StoredReply
from .verdicts import Judgement, word_of


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
        """Whether the message, or one of its items, would have gone another way."""
        if self.now is None:
            return False
        verdict = word_of(self.now.verdict)
        items = {each.place: word_of(each.verdict) for each in self.now.items}
        # Where none were judged, all went the way of the message.
        before = self.stored.items or dict.fromkeys(items, self.stored.verdict)
        return verdict != self.stored.verdict or items != before


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
        stored.reply,
        stored.destination,
        operation,
        stored.in_doubt,
        stored.judged_at,
        stored.payload,
        stored.edited,
    )
