"""The figure `snapshot`: how a drain goes on while another session keeps an old snapshot open.

PostgreSQL then keeps every row's former versions and their index entries, more of them with each message: so
what is compared is the end of one drain with its beginning, by the receiver's books.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from sqlalchemy import text

from . import seeding
from .books import halt, moments_of, rate_between, wait_until_received
from .comparing import Comparison
from .contestant import new_place
from .orders import identities
from .plan import Plan
from .stage import Stage, reaching
from .tally import Tally, tally_of, wait_until_finished
from .turns import in_turn
from .watching import Watch
from .with_outbox import Outbox

ROUNDS = 2
"""The most: each is a long drain, which is compared with itself."""
LEAD = 3000
"""The most messages before those that count: the window rises meanwhile."""
TARGET = 0.6
PARTS = 5
PREFIX = "snapshot"


@dataclass(frozen=True, slots=True)
class SnapshotRound:
    """One drain.

    Attributes:
        at_first: messages per second of the first fifth.
        at_last: of the last.
    """

    tally: Tally
    at_first: float
    at_last: float


def take(stage: Stage, plan: Plan, watch: Watch) -> list[Comparison]:
    """Take the figure, each round with a new database.

    Raises:
        BenchFailed: a process ended, or was not ready in time.
    """
    rounds = min(ROUNDS, plan.rounds)
    (drains,) = in_turn("snapshot", rounds, watch, {Outbox.name: partial(_drained, stage, plan, watch)})
    return [
        Comparison(
            figure="snapshot",
            unit="messages/s",
            against="the first fifth of the drain",
            ours=tuple(each.at_last for each in drains),
            baseline=tuple(each.at_first for each in drains),
            better="higher",
            target=TARGET,
            tallies=tuple(each.tally for each in drains),
        )
    ]


def _drained(stage: Stage, plan: Plan, watch: Watch) -> SnapshotRound:
    """Drain a backlog, and a lead before it that does not count, under a snapshot taken before."""
    lead, fifth = min(LEAD, plan.backlog), plan.backlog // PARTS
    messages = lead + plan.backlog
    with new_place(stage) as place:
        outbox, receiver = plan.outbox(place), place.receiver
        watch.begin("getting ready", messages)
        with outbox.running():
            halt(outbox)
            seeding.seed_pending(place.url, PREFIX, messages, with_terms=False)
            outbox.settle()
            already, received = outbox.finished(), receiver.count()
            watch.begin("draining under an old snapshot", messages)
            with _old_snapshot(place.url):
                outbox.go()
                wait_until_received(outbox, received + messages)
                wait_until_finished(outbox, already + messages, watch)
            books = receiver.books()
            tally = tally_of(identities(PREFIX, messages), books, outbox.finished() - already)
    moments = moments_of(books, PREFIX)
    return SnapshotRound(
        tally,
        rate_between(moments, lead, lead + fifth),
        rate_between(moments, len(moments) - 1 - fifth, len(moments) - 1),
    )


@contextmanager
def _old_snapshot(url: str) -> Iterator[None]:
    """Keep a transaction idle for the length of the block that has read, as a backup's or a report's."""
    with reaching(url) as engine:
        repeatable = engine.execution_options(isolation_level="REPEATABLE READ")
        with repeatable.connect() as connection:
            connection.execute(text("SELECT count(*) FROM outbox_message"))
            yield
