"""The figures `latency`: from a shop's commit to the receiver, at a pace that leaves time to rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .comparing import Comparison
from .contestant import Contestant, Place, new_place
from .plan import Plan
from .shop import WARM_UP as SHOP_WARM_UP
from .shopping import told_by_shop
from .stage import Stage
from .tally import Tally, tally_of, wait_until_finished
from .turns import in_turn
from .watching import Watch
from .with_outbox import Outbox
from .with_plain_task import PlainTask

FIGURES = (("latency-p50", 0.5, 1.2), ("latency-p99", 0.99, 1.5))
"""Name, share and what the ratio is meant to be at most."""
FURTHER = {"p95": 0.95, "greatest": 1.0}
MESSAGES_A_SECOND = 20
PREFIX = "shop"


@dataclass(frozen=True, slots=True)
class LatencyRound:
    """One contestant's latencies in ms, the shortest first; one for each message that arrived."""

    tally: Tally
    milliseconds: tuple[float, ...]


def take(stage: Stage, plan: Plan, watch: Watch) -> list[Comparison]:
    """Take the figures `latency-p50` and `latency-p99`, from the same rounds."""
    ours, plain = in_turn(
        "latency",
        plan.rounds,
        watch,
        {
            Outbox.name: lambda: traded(stage, plan.outbox, plan.seconds, watch),
            PlainTask.name: lambda: traded(stage, plan.plain, plan.seconds, watch),
        },
    )
    together = {
        name: sorted(value for each in rounds for value in each.milliseconds)
        for name, rounds in ((Outbox.name, ours), (PlainTask.name, plain))
    }
    further = {
        f"{words}, {name}": quantile(values, share)
        for words, share in FURTHER.items()
        for name, values in together.items()
    }
    return [
        Comparison(
            figure=figure,
            unit="ms",
            against="a Celery task a stored message",
            ours=tuple(quantile(each.milliseconds, share) for each in ours),
            baseline=tuple(quantile(each.milliseconds, share) for each in plain),
            better="lower",
            target=target,
            tallies=tuple(each.tally for each in (*ours, *plain)),
            notes=further,
        )
        for figure, share, target in FIGURES
    ]


def traded(stage: Stage, make: Callable[[Place], Contestant], seconds: float, watch: Watch) -> LatencyRound:
    """Take one round of one contestant.

    Args:
        make: makes the contestant at its place.
        seconds: how long the shop takes orders.

    Raises:
        BenchFailed: a process ended, or was not ready in time.
    """
    with new_place(stage) as place:
        contestant = make(place)
        watch.begin("getting ready", _orders(seconds))
        with contestant.running():
            return traded_on(contestant, PREFIX, seconds, watch)


def traded_on(contestant: Contestant, prefix: str, seconds: float, watch: Watch) -> LatencyRound:
    """Take a round of a contestant that runs already, and has nothing else to deliver.

    Args:
        prefix: what the identities of its orders begin with.
        seconds: how long the shop takes orders.

    Raises:
        BenchFailed: a process ended, or the shop failed.
    """
    already, receiver = contestant.finished(), contestant.place.receiver
    committed = _trade(contestant, prefix, seconds, watch)
    wait_until_finished(contestant, already + SHOP_WARM_UP + len(committed), watch)
    books = receiver.books()
    tally = tally_of(list(committed), books, contestant.finished() - already - SHOP_WARM_UP)
    return LatencyRound(tally, _latencies(committed, books))


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value that `share` of the `ordered` values do not exceed; 0 when there are none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def _orders(seconds: float) -> int:
    return max(1, round(seconds * MESSAGES_A_SECOND))


def _trade(contestant: Contestant, prefix: str, seconds: float, watch: Watch) -> dict[str, float]:
    """Run the shop to its end; return each order's identity and the moment after its commit."""
    orders, receiver = _orders(seconds), contestant.place.receiver
    watch.begin(f"{MESSAGES_A_SECOND} orders a second", orders)
    before = receiver.count()
    words = [contestant.name, prefix, str(orders), str(1 / MESSAGES_A_SECOND)]
    longest = (SHOP_WARM_UP + orders) / MESSAGES_A_SECOND
    moments: dict[str, float] = told_by_shop(
        contestant, "bench.shop", words, longest, lambda: watch.at(receiver.count() - before)
    )
    return moments


def _latencies(committed: Mapping[str, float], books: Sequence[tuple[str, float]]) -> tuple[float, ...]:
    first: dict[str, float] = {}
    for identity, moment in books:
        first.setdefault(identity, moment)
    arrived = (name for name in committed if name in first)
    return tuple(sorted(1000 * (first[name] - committed[name]) for name in arrived))
