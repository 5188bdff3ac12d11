"""Taking figures in turn: one round of the one contestant, one of the other, and so on.

What the machine does besides then falls on both alike; each pair of rounds gives a ratio.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from . import claiming, drain, enqueue, judging, latency, window
from .claiming import ClaimTimes
from .contestant import Contestant, Place
from .drain import DrainRound
from .enqueue import Enqueued
from .judging import Judged
from .latency import LatencyRound
from .stage import Stage
from .watching import Watch
from .window import WindowRound
from .with_outbox import Outbox
from .with_plain_task import PlainTask

MANY = 10_000
"""The most messages given to one `enqueue_many`."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Plan:
    """How the figures are taken.

    Attributes:
        messages: the outbox's, in each round of `drain`.
        plain_messages: the plain task's; its rate does not depend on how many wait.
        rounds: of each contestant.
        seconds: of each round of `latency`.
        transactions: of each kind of `enqueue`.
        followers: parked in one of the two databases of `claim`.
        window: of the outbox's destination, which its two engines share.
        prefetch: the plain worker's `worker_prefetch_multiplier`.
    """

    messages: int
    plain_messages: int
    rounds: int
    seconds: float
    transactions: int
    followers: int
    window: int
    prefetch: int

    def outbox(self, place: Place) -> Contestant:
        """Return the outbox at its place."""
        return Outbox(place, self.window)

    def plain(self, place: Place) -> Contestant:
        """Return the plain task at its place."""
        return PlainTask(place, self.prefetch)


@dataclass(frozen=True, slots=True)
class Pairs(Generic[R]):
    """The rounds of both contestants, in the order they were taken."""

    outbox: list[R]
    plain: list[R]


def take_drain(stage: Stage, plan: Plan, watch: Watch) -> Pairs[DrainRound]:
    """Take the figure `drain` as planned."""
    return _in_turn(
        "drain",
        plan.rounds,
        watch,
        lambda: drain.take(stage, plan.outbox, plan.messages, watch),
        lambda: drain.take(stage, plan.plain, plan.plain_messages, watch),
    )


def take_latency(stage: Stage, plan: Plan, watch: Watch) -> Pairs[LatencyRound]:
    """Take the figure `latency` as planned."""
    return _in_turn(
        "latency",
        plan.rounds,
        watch,
        lambda: latency.take(stage, plan.outbox, plan.seconds, watch),
        lambda: latency.take(stage, plan.plain, plan.seconds, watch),
    )


def take_enqueue(stage: Stage, plan: Plan, database: str, watch: Watch) -> Enqueued:
    """Take the figure `enqueue` on one kind of database as planned."""
    rounds = -(-plan.transactions // enqueue.TRANSACTIONS_A_ROUND)
    watch.round(f"enqueue, {database}")
    return enqueue.take(stage, database, rounds, min(MANY, plan.messages), watch)


def take_claims(stage: Stage, plan: Plan, database: str, watch: Watch) -> ClaimTimes:
    """Take the figure `claim` on one kind of database as planned."""
    watch.round(f"claim, {database}")
    return claiming.take(stage, database, watch, plan.followers)


def take_judging(items: int, watch: Watch) -> Judged:
    """Take the figure `judge` for a report on so many items."""
    watch.round(f"judge, {items} items")
    return judging.take(items, watch)


def take_window(plan: Plan, watch: Watch) -> Pairs[WindowRound]:
    """Take the figure `window`: once with one that follows the receiver, once with one chosen by hand."""
    orders = min(window.ORDERS, plan.messages)
    follows, chosen = (
        partial(window.take, limit, orders, watch) for limit in (window.LIMIT, window.CAPACITY)
    )
    return _in_turn("window", 1, watch, follows, chosen)


def _in_turn(
    figure: str, rounds: int, watch: Watch, with_outbox: Callable[[], R], with_plain: Callable[[], R]
) -> Pairs[R]:
    pairs: Pairs[R] = Pairs([], [])
    for n in range(1, rounds + 1):
        for name, take, into in (
            (Outbox.name, with_outbox, pairs.outbox),
            (PlainTask.name, with_plain, pairs.plain),
        ):
            watch.round(f"{figure}, round {n} of {rounds}, {name}")
            into.append(take())
    return pairs
