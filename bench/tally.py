"""Whether a contestant did what was asked: the receiver's books against what was handed in."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .contestant import Contestant
from .watching import Watch

LOOK_SECONDS = 0.02
STALL_SECONDS = 30.0
"""With nothing new at the receiver for so long, what is missing is lost."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the messages of one round.

    Attributes:
        messages: handed in.
        accepted: of these, received at least once and delivered by the database's word.
        duplicates: requests beyond the first for the same message.
    """

    messages: int
    accepted: int
    duplicates: int

    @property
    def lost(self) -> int:
        return self.messages - self.accepted


def wait_until_finished(contestant: Contestant, total: int, watch: Watch) -> float:
    """Wait until the database calls `total` messages delivered; return that moment, monotonic.

    The receiver is asked until it has all, since asking the database takes time from the work. When
    nothing moves any more this returns all the same: the tally tells what is missing.
    """
    stage, receiver = contestant.place.stage, contestant.place.receiver
    before = receiver.count()
    seen, moved_at = before, time.monotonic()
    while seen < total or contestant.finished() < total:
        stage.check_parts()
        count = receiver.count()
        if count > seen:
            seen, moved_at = count, time.monotonic()
            watch.at(seen - before)
        elif time.monotonic() - moved_at > STALL_SECONDS:
            break
        time.sleep(LOOK_SECONDS)
    return time.monotonic()


def tally_of(identities: Sequence[str], books: Iterable[tuple[str, float]], delivered: int) -> Tally:
    """Return the tally of a round.

    Args:
        identities: of the messages handed in.
        books: the receiver's.
        delivered: how many of them the database calls delivered.
    """
    wanted = frozenset(identities)
    received = Counter(identity for identity, _ in books if identity in wanted)
    return Tally(
        messages=len(wanted),
        accepted=min(len(received), delivered),
        duplicates=sum(received.values()) - len(received),
    )
