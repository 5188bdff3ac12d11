"""The figure `claim`: what claiming due messages takes while many others are parked, and while none is.

Two databases hold the same dead messages and the same due ones, and one of them followers besides, which
are parked behind the dead. Claims run in this process, in the one and in the other in turn.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, func, select, text, update

from orderflow_outbox import State, enqueue_many
from orderflow_outbox.tables import body, message
from worker import schema
from worker.store.bulk import insert_many
from worker.store.claiming import claim, is_parked
from worker.store.ordering import has_forgotten
from worker.store.transactions import Store, Transaction, database_clock

from .comparing import Comparison
from .garbage import no_garbage_collected
from .orders import identities, order
from .plan import Plan
from .stage import BenchFailed, Stage, reaching
from .watching import Watch

FOLLOWERS = 100_000
TARGET = 1.5
DUE = 250
KEYS = 100
"""Each has a dead message that blocks it, and its share of the followers."""
KEYLESS = 5
"""Every fifth due message has no key; each of the others has one of its own."""
ROUNDS = 50
WARM_UP_ROUNDS = 5
DESTINATION = "main"
LEASE = timedelta(seconds=90)
PIECE = 5000

# A plain VACUUM would pass over the larger table's indexes, where so few rows are dead, and cut the smaller
# table's file, which the next claim would have to make longer again.
_CLEAN = "VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) outbox_message"


def take(stage: Stage, plan: Plan, watch: Watch, figure: str, database: str) -> list[Comparison]:
    """Take the figure on one kind of database.

    Raises:
        BenchFailed: a claim did not get every due message, or the followers are not parked as they should be.
    """
    crowded, alone = [], []
    watch.round(figure)
    with _outbox(stage, database) as with_followers, _outbox(stage, database) as without:
        watch.begin("filling", plan.followers)
        fill(with_followers, plan.followers)
        fill(without, 0)
        check_parked(with_followers, plan.followers)
        watch.begin("claims in turn", ROUNDS)
        for n in range(-WARM_UP_ROUNDS, ROUNDS):
            took = [claim_milliseconds(each) for each in (with_followers, without)]
            if n >= 0:
                crowded.append(took[0])
                alone.append(took[1])
                watch.at(n + 1)
    return [
        Comparison(
            figure=figure,
            unit="ms",
            against="none parked",
            ours=tuple(crowded),
            baseline=tuple(alone),
            better="lower",
            target=TARGET,
        )
    ]


@contextmanager
def _outbox(stage: Stage, database: str) -> Iterator[Engine]:
    """Make the outbox's tables in a new database, which is reached as a worker reaches it."""
    _, url = stage.new_round(database)
    with reaching(url) as engine:
        schema.upgrade(engine)
        yield engine


def fill(engine: Engine, followers: int) -> None:
    """Fill empty tables: the dead, then their followers, those of all keys mixed, then the due.

    All are copies of one message as `enqueue_many` stores it, but for what makes them what they are.
    """
    with engine.begin() as connection:
        elders = enqueue_many(connection, [order(each) for each in identities("dead", KEYS)])
        number = elders[0].id
        model = connection.execute(select(message).where(message.c.id == number)).mappings().one()
        its_body = connection.execute(select(body).where(body.c.message_id == number)).mappings().one()
        connection.execute(
            update(message).values(state=State.DEAD.value, due_at=None, finished_at=message.c.created_at)
        )
    rows = [*_followers(followers, [each.key for each in elders]), *_due()]
    for start in range(0, len(rows), PIECE):
        piece = [
            {**model, **row, "id": n, "position": n, "blocks": row["key"] is not None}
            for n, row in enumerate(rows[start : start + PIECE], elders[-1].id + 1 + start)
        ]
        with engine.begin() as connection:
            insert_many(connection, message, piece)
            insert_many(connection, body, [{**its_body, "message_id": row["id"]} for row in piece])
    _on_postgresql(engine, "VACUUM ANALYZE", "CHECKPOINT")
    engine.dispose()  # SQLite's log goes into its file when the last connection ends


def _followers(count: int, keys: Sequence[str | None]) -> Iterator[dict[str, Any]]:
    for n, identity in enumerate(identities("follower", count)):
        yield {"idempotency_key": identity, "key": keys[n % len(keys)], "due_at": None}


def _due() -> Iterator[dict[str, Any]]:
    for n, identity in enumerate(identities("due", DUE)):
        yield {"idempotency_key": identity, "key": f"order:{identity}" if n % KEYLESS else None}


def check_parked(engine: Engine, followers: int) -> None:
    """Raise BenchFailed unless so many messages are parked, each behind another."""
    with Store(engine).reading() as transaction:
        parked = transaction.connection.scalar(select(func.count()).select_from(message).where(is_parked))
        if parked != followers:
            raise BenchFailed(f"claim: {parked} messages are parked of {followers}")
        if has_forgotten(transaction):
            raise BenchFailed("claim: a parked message waits for nobody")


def claim_milliseconds(engine: Engine) -> float:
    """Return how long the claim of every due message takes, in ms; they are due again afterwards.

    Raises:
        BenchFailed: it did not get them all.
    """
    _on_postgresql(engine, _CLEAN)
    with engine.connect() as connection:  # rolled back at the end
        transaction = Transaction(connection, database_clock(connection))
        with no_garbage_collected():
            begun = time.perf_counter()
            got = len(claim(transaction, DESTINATION, DUE, LEASE).claims)
            ended = time.perf_counter()
    if got != DUE:
        raise BenchFailed(f"claim: it got {got} messages of {DUE}")
    return 1000 * (ended - begun)


def _on_postgresql(engine: Engine, *statements: str) -> None:
    if engine.dialect.name == "postgresql":
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            for each in statements:
                connection.execute(text(each))
