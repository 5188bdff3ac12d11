"""The figure `snapshot`: how a drain goes on while another session keeps an old snapshot open.

PostgreSQL then keeps every row's former versions and their index entries, more of them with each message: so
what is compared is the end of one drain with its beginning, by the receiver's books.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from . import seeding
from .books import halt, moments_of, rate_between, wait_until_received
from .comparing import Comparison
from .contestant import Place
from .orders import identities
from .stage import Stage
from .tally import Tally, tally_of, wait_until_finished
from .watching import Watch
from .with_outbox import DEFAULT_WINDOW, Outbox

MESSAGES = 100_000
LEAD = 3000
"""Messages before those that count: the window rises meanwhile."""
ROUNDS = 3
TARGET = 0.6
PARTS = 5
PREFIX = "snapshot"


def take(
    stage: Stage,
    watch: Watch,
    messages: int = MESSAGES,
    lead: int = LEAD,
    rounds: int = ROUNDS,
    window: int = DEFAULT_WINDOW,
) -> Comparison:
    """Take the figure, each round with a new database.

    Args:
        messages: how many count: the last fifth of them against the first.
        lead: how many are sent before those.

    Raises:
        BenchFailed: a process ended, or was not ready in time.
    """
    ours, baseline, tallies = [], [], []
    for n in range(1, rounds + 1):
        watch.round(f"snapshot, round {n} of {rounds}")
        moments, tally = _drain(stage, lead + messages, window, watch)
        fifth = messages // PARTS
        baseline.append(rate_between(moments, lead, lead + fifth))
        ours.append(rate_between(moments, len(moments) - 1 - fifth, len(moments) - 1))
        tallies.append(tally)
    return Comparison(
        figure="snapshot",
        unit="messages/s",
        against="the first fifth of the same drain",
        ours=tuple(ours),
        baseline=tuple(baseline),
        better="higher",
        target=TARGET,
        tallies=tuple(tallies),
    )


def _drain(stage: Stage, messages: int, window: int, watch: Watch) -> tuple[list[float], Tally]:
    """Drain so many under a snapshot taken before; return the moments they were received at."""
    folder, database = stage.new_round()
    with stage.receiving(folder) as receiver:
        outbox = Outbox(Place(stage, folder, database, receiver), window)
        watch.begin("getting ready", messages)
        with outbox.running():
            halt(outbox)
            seeding.seed_pending(outbox.place.url, PREFIX, messages, with_terms=False)
            outbox.settle()
            already, received = outbox.finished(), receiver.count()
            watch.begin("draining under an old snapshot", messages)
            with _old_snapshot(outbox.place.dsn):
                outbox.go()
                wait_until_received(outbox, received + messages)
                wait_until_finished(outbox, already + messages, watch)
            books = receiver.books()
            tally = tally_of(identities(PREFIX, messages), books, outbox.finished() - already)
    return moments_of(books, PREFIX), tally


@contextmanager
def _old_snapshot(dsn: str) -> Iterator[None]:
    """Keep a transaction idle for the length of the block that has read, as a backup's or a report's."""
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT count(*) FROM outbox_message")
        yield
        connection.rollback()
