"""The figure `drain`: how fast a full outbox, or a full queue, is emptied."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .contestant import Contestant, Place
from .orders import identities
from .stage import Stage
from .tally import Tally, tally_of, wait_until_finished
from .watching import Watch

PIECE = 500


@dataclass(frozen=True, slots=True)
class DrainRound:
    """One contestant's messages, from the word go to the last one's committed result."""

    tally: Tally
    seconds: float

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.tally.accepted / self.seconds


def take(stage: Stage, make: Callable[[Place], Contestant], messages: int, watch: Watch) -> DrainRound:
    """Take the figure once for one contestant.

    Args:
        make: makes the contestant at its place.
        messages: how many wait when the clock starts.

    Raises:
        BenchFailed: a process ended, or was not ready in time.
    """
    folder, database = stage.new_round()
    with stage.receiving(folder) as receiver:
        contestant = make(Place(stage, folder, database, receiver))
        watch.begin("getting ready", messages)
        with contestant.running():
            contestant.pause()
            these = identities("drain", messages)
            already = contestant.finished()
            _fill(contestant, these, watch)
            contestant.settle()
            watch.begin("draining", messages)
            begun = time.monotonic()
            contestant.go()
            ended = wait_until_finished(contestant, already + messages, watch)
            tally = tally_of(these, receiver.books(), contestant.finished() - already)
    return DrainRound(tally, ended - begun)


def _fill(contestant: Contestant, these: list[str], watch: Watch) -> None:
    watch.begin("filling", len(these))
    for first in range(0, len(these), PIECE):
        contestant.put(these[first : first + PIECE])
        watch.at(first + PIECE)
