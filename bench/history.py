"""The figure `history`: how fast a long backlog leaves beside a million finished messages.

Two databases, a worker for each, of which one is held while the other drains. Both are timed from within
their drain, past the window's rise, by the receiver's books.
"""

from __future__ import annotations

from sqlalchemy import text

from . import seeding
from .books import halt, moments_of, rate_between, tally_with_database, wait_until_received
from .comparing import Comparison
from .contestant import Contestant, Place, new_place
from .orders import identities
from .plan import Plan
from .stage import READY_SECONDS, Stage, reaching
from .tally import Tally, tally_of, wait_until_finished
from .turns import in_turn
from .watching import Watch

FEW = 10_000
FEWEST = 100
TARGET = 0.85
TIMED_FROM, TIMED_UNTIL = 0.3, 0.9
"""The part of each drain that is timed: before it the window rises, after it the few run out."""
FINISHED, PENDING, ALONE = "history", "pending", "few"
"""What the identities begin with: of the many finished, of the many that wait, and of those without them."""

_EMPTY = text(
    "TRUNCATE outbox_message, outbox_body, outbox_term, outbox_unindexed, outbox_attempt, outbox_item CASCADE"
)


def take(stage: Stage, plan: Plan, watch: Watch) -> list[Comparison]:
    """Take the figure.

    Raises:
        BenchFailed: a process ended, or was not ready in time.
    """
    tallies: list[Tally] = []
    few = max(FEWEST, min(FEW, plan.messages))
    with new_place(stage) as here, new_place(stage) as there:
        long, short = plan.outbox(here), plan.outbox(there)
        watch.round("history")
        with short.running():
            halt(short)
            with long.running():
                halt(long)
                _fill(long, plan.crowd, plan.backlog + 2 * plan.rounds * few, watch)
                ours, baseline = in_turn(
                    "history",
                    plan.rounds,
                    watch,
                    {
                        "with a history": lambda: _drain_some(long, few, watch),
                        "without": lambda: _drain_all(short, few, tallies, watch),
                    },
                )
                tallies.append(tally_with_database(here, here.receiver.books(), PENDING))
    return [
        Comparison(
            figure="history",
            unit="messages/s",
            against="few messages, and no others",
            ours=tuple(ours),
            baseline=tuple(baseline),
            better="higher",
            target=TARGET,
            tallies=tuple(tallies),
        )
    ]


def _fill(outbox: Contestant, finished: int, pending: int, watch: Watch) -> None:
    url = outbox.place.url
    outbox.place.stage.wait_until(
        lambda: seeding.is_indexed(url), READY_SECONDS, "what warmed the worker up is indexed"
    )
    watch.begin("filling", finished + pending)
    seeding.seed_finished(url, FINISHED, finished, like=identities("warm-up", 1)[0])
    watch.at(finished)
    seeding.seed_pending(url, PENDING, pending)
    outbox.settle()


def _drain_all(outbox: Contestant, few: int, tallies: list[Tally], watch: Watch) -> float:
    place = outbox.place
    _empty(place)
    before = place.receiver.count()
    prefix = f"{ALONE}-{before}"
    seeding.seed_pending(place.url, prefix, few)
    outbox.settle()
    watch.begin("draining all there is", few)
    outbox.go()
    wait_until_received(outbox, before + few)
    wait_until_finished(outbox, few, watch)
    halt(outbox)
    books = place.receiver.books()[before:]
    tallies.append(tally_of(identities(prefix, few), books, outbox.finished()))
    return _rate(moments_of(books, prefix), few)


def _empty(place: Place) -> None:
    with reaching(place.url) as engine, engine.begin() as connection:
        connection.execute(_EMPTY)


def _drain_some(outbox: Contestant, few: int, watch: Watch) -> float:
    receiver = outbox.place.receiver
    before = receiver.count()
    watch.begin("draining of very many", few)
    outbox.go()
    wait_until_received(outbox, before + few)
    halt(outbox)
    return _rate(moments_of(receiver.books()[before:], PENDING), few)


def _rate(moments: list[float], few: int) -> float:
    return rate_between(moments, int(TIMED_FROM * few), int(TIMED_UNTIL * few))
