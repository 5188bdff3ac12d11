"""The figure `history`: how fast a long backlog leaves beside a million finished messages.

Two databases, a worker for each, of which one is held while the other drains. Both are timed from within
their drain, past the window's rise, by the receiver's books.
"""

from __future__ import annotations

from . import seeding
from .books import halt, moments_of, rate_between, tally_with_database, wait_until_received
from .comparing import Comparison
from .contestant import Place
from .orders import identities
from .stage import READY_SECONDS, Stage
from .tally import Tally, tally_of, wait_until_finished
from .watching import Watch
from .with_outbox import DEFAULT_WINDOW, Outbox

FINISHED = 1_000_000
PENDING = 100_000
FEW = 10_000
ROUNDS = 3
TARGET = 0.85
TIMED_FROM, TIMED_UNTIL = 0.3, 0.9
"""The part of each drain that is timed: before it the window rises, after it the few run out."""

_EMPTY = (
    "TRUNCATE outbox_message, outbox_body, outbox_term, outbox_unindexed, outbox_attempt, outbox_item CASCADE"
)


def take(
    stage: Stage,
    watch: Watch,
    finished: int = FINISHED,
    pending: int = PENDING,
    few: int = FEW,
    rounds: int = ROUNDS,
    window: int = DEFAULT_WINDOW,
) -> Comparison:
    """Take the figure.

    Args:
        finished: messages delivered before, in the one database.
        pending: how many wait there at least, all the time.
        few: how many are drained in a round, which are all there are in the other database.

    Raises:
        BenchFailed: a process ended, or was not ready in time.
    """
    (long_folder, long_name), (short_folder, short_name) = stage.new_round(), stage.new_round()
    with stage.receiving(long_folder) as here, stage.receiving(short_folder) as there:
        long = Outbox(Place(stage, long_folder, long_name, here), window)
        short = Outbox(Place(stage, short_folder, short_name, there), window)
        watch.round("history")
        with short.running():
            halt(short)
            with long.running():
                halt(long)
                _fill(stage, long, finished, pending + 2 * rounds * few, watch)
                ours, baseline, tallies = [], [], []
                for n in range(rounds):
                    watch.round(f"history, round {n + 1} of {rounds}")
                    rate, tally = _drain_all(short, f"few-{n}", few, watch)
                    baseline.append(rate)
                    tallies.append(tally)
                    ours.append(_drain_some(long, few, watch))
                tallies.append(tally_with_database(long.place, here.books(), "pending"))
    return Comparison(
        figure="history",
        unit="messages/s",
        against="few messages waiting, and no others",
        ours=tuple(ours),
        baseline=tuple(baseline),
        better="higher",
        target=TARGET,
        tallies=tuple(tallies),
    )


def _fill(stage: Stage, outbox: Outbox, finished: int, pending: int, watch: Watch) -> None:
    url = outbox.place.url
    stage.wait_until(lambda: seeding.is_indexed(url), READY_SECONDS, "what warmed the worker up is indexed")
    watch.begin("filling", finished + pending)
    seeding.seed_finished(url, "history", finished, like=identities("warm-up", 1)[0])
    watch.at(finished)
    seeding.seed_pending(url, "pending", pending)
    outbox.settle()


def _drain_all(outbox: Outbox, prefix: str, few: int, watch: Watch) -> tuple[float, Tally]:
    place = outbox.place
    place.stage.server.execute(_EMPTY, place.database)
    seeding.seed_pending(place.url, prefix, few)
    outbox.settle()
    watch.begin("draining all there is", few)
    before = place.receiver.count()
    outbox.go()
    wait_until_received(outbox, before + few)
    wait_until_finished(outbox, few, watch)
    halt(outbox)
    books = place.receiver.books()[before:]
    tally = tally_of(identities(prefix, few), books, outbox.finished())
    return _rate(moments_of(books, prefix), few), tally


def _drain_some(outbox: Outbox, few: int, watch: Watch) -> float:
    receiver = outbox.place.receiver
    before = receiver.count()
    watch.begin("draining of very many", few)
    outbox.go()
    wait_until_received(outbox, before + few)
    halt(outbox)
    return _rate(moments_of(receiver.books()[before:], "pending"), few)


def _rate(moments: list[float], few: int) -> float:
    return rate_between(moments, int(TIMED_FROM * few), int(TIMED_UNTIL * few))
