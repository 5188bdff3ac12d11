"""How fast a full outbox, or a full queue, is emptied, and what processor time it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .contestant import Contestant, Place, new_place
from .orders import identities
from .processor import used, used_since
from .stage import POSTGRESQL, Receiver, Stage
from .tally import Tally, tally_of, wait_until_finished
from .watching import Watch

PIECE = 500
MIDDLE = (0.3, 0.9)
"""From which share of the requests to which the requests in progress are averaged."""
DATABASE, RECEIVER = "database", "receiver"


@dataclass(frozen=True, slots=True)
class DrainRound:
    """One contestant's messages, from the word go to the last one's committed result.

    Attributes:
        processor: the seconds of processor time that each part used meanwhile, with the database's and
            the receiver's.
        in_flight: the requests in progress at a receiver with a latency, on average over the middle.
    """

    tally: Tally
    seconds: float
    processor: Mapping[str, float]
    in_flight: float

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.tally.accepted / self.seconds

    def processor_per_thousand(self, *parts: str) -> float:
        """Return the seconds of processor time that these parts used for 1,000 messages."""
        return 1000 * sum(self.processor[each] for each in parts) / self.tally.messages


def drained(
    stage: Stage,
    make: Callable[[Place], Contestant],
    messages: int,
    watch: Watch,
    database: str = POSTGRESQL,
    latency: float = 0.0,
) -> DrainRound:
    """Take one round of one contestant.

    Args:
        make: makes the contestant at its place.
        messages: how many wait when the clock starts.
        database: one of `stage.DATABASES`.
        latency: the seconds that the receiver lets pass before it answers.

    Raises:
        BenchFailed: a process ended, or was not ready in time.
    """
    with new_place(stage, database, latency) as place:
        contestant, receiver = make(place), place.receiver
        watch.begin("getting ready", messages)
        with contestant.running() as processes:
            contestant.pause()
            these = identities("drain", messages)
            already = contestant.finished()
            _fill(contestant, these, watch)
            contestant.settle()
            watch.begin("draining", messages)
            everyone = {**processes, DATABASE: stage.server_pid, RECEIVER: receiver.pid}
            used_before = used(everyone)
            begun = time.monotonic()
            contestant.go()
            ended = wait_until_finished(contestant, already + messages, watch)
            processor = used_since(used_before, everyone)
            tally = tally_of(these, receiver.books(), contestant.finished() - already)
            in_flight = _in_flight(receiver, messages) if latency else 0.0
    return DrainRound(tally, ended - begun, processor, in_flight)


def _in_flight(receiver: Receiver, messages: int) -> float:
    progress = receiver.progress()[-messages:]
    if len(progress) < messages:
        return 0.0
    (begun, before), (ended, after) = (progress[int(share * (messages - 1))] for share in MIDDLE)
    return (after - before) / (ended - begun)


def _fill(contestant: Contestant, these: list[str], watch: Watch) -> None:
    watch.begin("filling", len(these))
    for first in range(0, len(these), PIECE):
        contestant.put(these[first : first + PIECE])
        watch.at(first + PIECE)
