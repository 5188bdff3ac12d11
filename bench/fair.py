"""The figure `fair`: what a destination's long backlog and slow answers take from another's messages.

One service has two destinations. The slow one answers late and has very many messages due; it is held for
the baseline's rounds, and resumed for the others. What counts is the way of the other one's messages, few and
steady: from a shop's commit to the receiver.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Sequence

from worker.by_hand import hold, resume
from worker.store.transactions import Store

from . import seeding
from .books import tally_with_database
from .comparing import Comparison
from .contestant import Place, new_place
from .latency import LatencyRound, quantile, traded_on
from .orders import USER
from .plan import Plan
from .stage import BenchFailed, Receiver, Stage, reaching
from .turns import in_turn
from .watching import Watch
from .with_outbox import BY, WHY, Outbox

SECONDS = 8.0
"""The most that each side of each round takes."""
ANSWER_SECONDS = 0.2
SLOW_WINDOW = 64
TARGET = 1.5
SLOW = "slow"
RISING_SECONDS = 3.0
"""Until the slow destination's window has risen."""
ENDING_SECONDS = 1.0
"""Until what was being sent to it is done."""
SPARE_SECONDS = 20.0
"""Longer than a round takes beside its `SECONDS`."""


class TwoDestinations(Outbox):
    """The outbox with a second destination.

    Args:
        slow: where that one's requests go.
    """

    finished_sql = f"{Outbox.finished_sql} AND destination = 'main'"

    def __init__(self, place: Place, window: int, slow: Receiver) -> None:
        self._slow = slow
        super().__init__(place, window)

    def prepare(self) -> None:
        """Make the tables and the configuration files."""
        super().prepare()
        folder = self.place.folder
        with (folder / "destinations.toml").open("a") as file:
            file.write(
                f'[destinations.{SLOW}]\nurl = "{self._slow.url}"\nprivate_addresses = true\n'
                f'user = "{USER}"\npassword = {{ file = {json.dumps(str(folder / "password"))} }}\n'
                f"window = {SLOW_WINDOW}\n"
            )


def take(stage: Stage, plan: Plan, watch: Watch) -> list[Comparison]:
    """Take the figure.

    Raises:
        BenchFailed: a process ended, was not ready in time, or the backlog became shorter than it may.
    """
    seconds = min(SECONDS, plan.seconds)
    spare = round(plan.rounds * (seconds + SPARE_SECONDS) * SLOW_WINDOW / ANSWER_SECONDS)
    with new_place(stage) as place:
        (place.folder / SLOW).mkdir()
        with stage.receiving(place.folder / SLOW, ANSWER_SECONDS) as slow:
            outbox = TwoDestinations(place, plan.window, slow)
            watch.round("fair")
            watch.begin("filling", plan.backlog + spare)
            with outbox.running(), reaching(place.url) as engine:
                store, names = Store(engine), (f"fair-{n}" for n in itertools.count())
                hold(store, SLOW, BY, WHY)
                seeding.seed_pending(place.url, SLOW, plan.backlog + spare, SLOW, with_terms=False)
                outbox.settle()

                def beside_backlog() -> LatencyRound:
                    resume(store, SLOW, BY, WHY)
                    time.sleep(RISING_SECONDS)
                    return traded_on(outbox, next(names), seconds, watch)

                def alone() -> LatencyRound:
                    hold(store, SLOW, BY, WHY)
                    time.sleep(ENDING_SECONDS)
                    return traded_on(outbox, next(names), seconds, watch)

                contestants = {"beside a backlog": beside_backlog, "alone": alone}
                ours, baseline = in_turn("fair", plan.rounds, watch, contestants)
                sent = slow.count()
                of_slow = tally_with_database(place, slow.books(), SLOW)
    if not 0 < sent <= spare:
        raise BenchFailed(f"fair: the slow destination got {sent} messages, with {spare} to spare")
    return [
        Comparison(
            figure="fair",
            unit="ms",
            against="the other destination held",
            ours=_p99(ours),
            baseline=_p99(baseline),
            better="lower",
            target=TARGET,
            tallies=(of_slow, *(each.tally for each in (*ours, *baseline))),
            notes={
                "p50": _p50(ours),
                "p50, held": _p50(baseline),
                "sent to the slow destination": sent,
            },
        )
    ]


def _p99(rounds: Sequence[LatencyRound]) -> tuple[float, ...]:
    return tuple(quantile(each.milliseconds, 0.99) for each in rounds)


def _p50(rounds: Sequence[LatencyRound]) -> float:
    return statistics.median(value for each in rounds for value in each.milliseconds)
