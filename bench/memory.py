"""The figure `memory`: what a worker's memory comes to with a million messages waiting, against a thousand.

Both deliver the same number of messages in each round, with a new worker. The peak of its Celery parent and
its children together counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from worker.broker import remove_socket, wait_ready

from . import seeding
from .books import halt, tally_with_database
from .comparing import Comparison
from .contestant import Place
from .footprint import Footprint
from .orders import identities
from .stage import READY_SECONDS, Stage
from .watching import Watch
from .with_outbox import DEFAULT_WINDOW, Outbox

WAITING = 1_000_000
FEW = 1000
DELIVERED = 20_000
ROUNDS = 3
MOST_ADDED_MB = 20.0
PREFIX = "memory"
_BYTES_A_MB = 1_000_000


def take(
    stage: Stage,
    watch: Watch,
    waiting: int = WAITING,
    few: int = FEW,
    delivered: int = DELIVERED,
    rounds: int = ROUNDS,
    window: int = DEFAULT_WINDOW,
) -> Comparison:
    """Take the figure.

    Args:
        waiting: messages in the one database at first.
        few: how many wait at most in the other, which is refilled.
        delivered: how many each worker delivers.

    Raises:
        BenchFailed: a process ended, or was not ready in time; or memory cannot be looked at here.
    """
    ours, baseline = [], []
    with _outbox(stage, window) as crowded, _outbox(stage, window) as calm:
        watch.round("memory")
        watch.begin("filling", waiting)
        seeding.seed_pending(crowded.place.url, PREFIX, waiting, with_terms=False)
        crowded.settle()
        for n in range(rounds):
            watch.round(f"memory, round {n + 1} of {rounds}")
            ours.append(_peak(crowded, delivered, watch, lambda _: None))
            these = identities(f"{PREFIX}-{n}", delivered)
            baseline.append(_peak(calm, delivered, watch, _Refilling(calm, these, few).at))
        tallies = [
            tally_with_database(each.place, each.place.receiver.books(), PREFIX) for each in (crowded, calm)
        ]
    return Comparison(
        figure="memory",
        unit="MB",
        against="few messages waiting",
        ours=tuple(ours),
        baseline=tuple(baseline),
        better="lower",
        target=None,
        most_added=MOST_ADDED_MB,
        tallies=tuple(tallies),
    )


@contextmanager
def _outbox(stage: Stage, window: int) -> Iterator[Outbox]:
    folder, database = stage.new_round()
    with (
        stage.receiving(folder) as receiver,
        closing(Outbox(Place(stage, folder, database, receiver), window)) as outbox,
    ):
        outbox.pause()
        yield outbox


class _Refilling:
    """Hands orders in by halves of what may wait, so that some wait all the time."""

    def __init__(self, outbox: Outbox, these: list[str], few: int) -> None:
        self._outbox = outbox
        self._these = these
        self._few = few
        self._put = 0

    def at(self, received: int) -> None:
        half = self._few // 2
        while self._put < len(self._these) and self._put - received <= half:
            self._outbox.put(self._these[self._put : self._put + half])
            self._put += half


def _peak(outbox: Outbox, delivered: int, watch: Watch, refill: Callable[[int], None]) -> float:
    """Return the most memory that a new worker takes, in MB, while it delivers so many."""
    place, stage = outbox.place, outbox.place.stage
    watch.begin("delivering", delivered)
    before = place.receiver.count()

    def is_done() -> bool:
        received = place.receiver.count() - before
        refill(received)
        footprint.look()
        watch.at(received)
        return received >= delivered

    try:
        with stage.running(outbox.parts(), place.folder):
            wait_ready(place.state_dir, READY_SECONDS)
            footprint = Footprint()
            outbox.go()
            stage.wait_until(is_done, READY_SECONDS + delivered / 100, f"{delivered} messages received")
            halt(outbox)
            footprint.look()
    finally:
        remove_socket(place.state_dir)
    return footprint.peak / _BYTES_A_MB
