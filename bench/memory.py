"""The figure `memory`: what a worker's memory comes to with a million messages waiting, against a thousand.

Both deliver the same number of messages in each round, with a new worker. The peak of its Celery parent and
its children together counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from worker.broker import remove_socket, wait_ready

from . import seeding
from .books import halt, tally_with_database
from .comparing import Comparison
from .contestant import Contestant, new_place
from .orders import identities
from .plan import Plan
from .processor import own_memory
from .stage import READY_SECONDS, Stage
from .turns import in_turn
from .watching import Watch

FEW = 1000
DELIVERED = 10_000
MOST_ADDED_MB = 20.0
PREFIX = "memory"
WORKER = "worker"
_BYTES_A_MB = 1_000_000


def take(stage: Stage, plan: Plan, watch: Watch) -> list[Comparison]:
    """Take the figure.

    Raises:
        BenchFailed: a process ended, or was not ready in time.
    """
    delivered = min(DELIVERED, plan.messages)
    with _held(stage, plan) as crowded, _held(stage, plan) as calm:
        watch.round("memory")
        waiting = plan.crowd + 2 * plan.rounds * delivered
        watch.begin("filling", waiting)
        seeding.seed_pending(crowded.place.url, PREFIX, waiting, with_terms=False)
        crowded.settle()
        ours, baseline = in_turn(
            "memory",
            plan.rounds,
            watch,
            {
                "very many waiting": lambda: _peak(crowded, delivered, None, watch),
                "few waiting": lambda: _peak(calm, delivered, _Refilling(calm, delivered), watch),
            },
        )
        tallies = [
            tally_with_database(each.place, each.place.receiver.books(), PREFIX) for each in (crowded, calm)
        ]
    return [
        Comparison(
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
    ]


@contextmanager
def _held(stage: Stage, plan: Plan) -> Iterator[Contestant]:
    """Make an outbox, of which no worker runs yet."""
    with new_place(stage) as place, closing(plan.outbox(place)) as outbox:
        outbox.pause()
        yield outbox


class _Refilling:
    """Hands orders in by halves of what may wait, so that some wait all the time."""

    def __init__(self, outbox: Contestant, messages: int) -> None:
        self._outbox = outbox
        self._before = outbox.place.receiver.count()
        self._these = identities(f"{PREFIX}-{self._before}", messages)
        self._put = 0

    def at(self, received: int) -> None:
        """Hand in what is missing once so many were received in all."""
        half = FEW // 2
        while self._put < len(self._these) and self._put - (received - self._before) <= half:
            self._outbox.put(self._these[self._put : self._put + half])
            self._put += half


def _peak(outbox: Contestant, delivered: int, refilling: _Refilling | None, watch: Watch) -> float:
    """Return the most memory that a new worker takes, in MB, while it delivers so many."""
    place, stage = outbox.place, outbox.place.stage
    watch.begin("delivering", delivered)
    before, peak = place.receiver.count(), 0

    def is_done() -> bool:
        nonlocal peak
        received = place.receiver.count()
        if refilling:
            refilling.at(received)
        peak = max(peak, own_memory(processes[WORKER]))
        watch.at(received - before)
        return received >= before + delivered

    try:
        with stage.running(outbox.parts(), place.folder) as processes:
            wait_ready(place.state_dir, READY_SECONDS)
            outbox.go()
            stage.wait_until(is_done, READY_SECONDS + delivered / 100, f"{delivered} messages received")
            halt(outbox)
            is_done()
    finally:
        remove_socket(place.state_dir)
    return peak / _BYTES_A_MB
