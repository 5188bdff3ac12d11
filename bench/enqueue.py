"""The figure `enqueue`: what a shop's own transaction costs, with a message in it and without.

Both kinds run in this process on one connection and take turns, one transaction each, so that a busy
moment of the machine falls on both, and neither has the processor's caches to itself: a shop, too, does other
things between two transactions. No hint is sent: that is no part of the transaction.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, String, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from orderflow_outbox import enqueue, enqueue_many
from orderflow_outbox.sqlite import prepare
from orderflow_outbox.tables import message, metadata

from .comparing import Comparison
from .orders import CHANNEL, OPERATION, document, identities, order
from .plan import Plan
from .stage import BenchFailed, Stage
from .watching import Watch

TARGET = 1.5
MANY = 10_000
"""The most messages given to one `enqueue_many`."""
TRANSACTIONS_A_ROUND = 24
WARM_UP_ROUNDS = 10
"""Until statements are prepared, plans chosen and the first pages of each index written."""


class Base(DeclarativeBase):
    """The shop's own tables."""


class Order(Base):
    """A row of the shop's."""

    __tablename__ = "shop_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str] = mapped_column(String(64))


def take(stage: Stage, plan: Plan, watch: Watch, figure: str, database: str) -> list[Comparison]:
    """Take the figure on one kind of database.

    Raises:
        BenchFailed: the database does not hold what was enqueued.
    """
    rounds, many = -(-plan.transactions // TRANSACTIONS_A_ROUND), min(MANY, plan.messages)
    _, url = stage.new_round(database)
    with _shop(url) as engine:
        with_message, alone = [], []
        watch.round(figure)
        watch.begin("transactions in turn", rounds)
        for n in range(-WARM_UP_ROUNDS, rounds):
            these = identities(f"round-{n}", TRANSACTIONS_A_ROUND)
            took = [[_seconds(engine, each, with_it) for with_it in (True, False)] for each in these]
            if n >= 0:
                with_message.append(1000 * statistics.median(seconds for seconds, _ in took))
                alone.append(1000 * statistics.median(seconds for _, seconds in took))
                watch.at(n + 1)
        watch.begin("many in one transaction", many)
        rate = many / _enqueue_many(engine, many)
        _check(engine, (WARM_UP_ROUNDS + rounds) * TRANSACTIONS_A_ROUND + many)
    return [
        Comparison(
            figure=figure,
            unit="ms",
            against="the shop's row alone",
            ours=tuple(with_message),
            baseline=tuple(alone),
            better="lower",
            target=TARGET,
            notes={"many at once, messages/s": rate},
        )
    ]


@contextmanager
def _shop(url: str) -> Iterator[Engine]:
    """Make a shop's engine, its tables and the outbox's, for the length of the block."""
    engine = prepare(create_engine(url))
    try:
        metadata.create_all(engine)
        Base.metadata.create_all(engine)
        yield engine
    finally:
        engine.dispose()


def _seconds(engine: Engine, identity: str, with_message: bool) -> float:
    """Return how long a transaction for an order of this identity takes."""
    text = document(identity)  # the shop would write it either way
    begun = time.perf_counter()
    with Session(engine) as session:
        session.add(Order(number=identity))
        if with_message:
            enqueue(
                session,
                OPERATION,
                text,
                channel=CHANNEL,
                key=f"order:{identity}",
                idempotency_key=identity,
            )
        session.commit()
    return time.perf_counter() - begun


def _enqueue_many(engine: Engine, many: int) -> float:
    """Return the seconds that one transaction of many messages takes."""
    new = [order(each) for each in identities("many", many)]
    begun = time.perf_counter()
    with Session(engine) as session:
        enqueue_many(session, new)
        session.commit()
    return time.perf_counter() - begun


def _check(engine: Engine, expected: int) -> None:
    with engine.connect() as connection:
        found = connection.scalar(select(func.count()).select_from(message))
    if found != expected:
        raise BenchFailed(f"enqueue: the database holds {found} messages of {expected}")
