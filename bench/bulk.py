"""The figure `enqueue-many`: 10,000 messages by one `enqueue_many`, against plain inserts of their rows.

The baseline is SQLAlchemy's Core, which is given the very rows that `enqueue_many` stored just before, made
ready outside its time. Both are one transaction in this process, commit included, into empty tables.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, func, select, text

from orderflow_outbox import enqueue_many
from orderflow_outbox.tables import body, message, metadata, unindexed

from .comparing import Comparison
from .garbage import no_garbage_collected
from .orders import identities, order
from .plan import Plan
from .stage import BenchFailed, Stage
from .watching import Watch

MESSAGES = 10_000
ROUNDS = 5
TARGET = 0.6

_TABLES = (message, body, unindexed)
_Rows = Sequence[tuple[Table, list[dict[str, Any]]]]


def take(stage: Stage, plan: Plan, watch: Watch) -> list[Comparison]:
    """Take the figure, after a round to warm up.

    Raises:
        BenchFailed: the database does not hold what was stored.
    """
    messages = min(MESSAGES, plan.messages)
    watch.round("enqueue-many")
    watch.begin("transactions in turn", ROUNDS)
    _, url = stage.new_round()
    engine = create_engine(url)
    try:
        metadata.create_all(engine)
        ours, baseline = [], []
        for n in range(-1, ROUNDS):
            new = [order(each) for each in identities(f"bulk-{n + 1}", messages)]
            enqueued = _rate(engine, messages, partial(enqueue_many, messages=new))
            rows = _stored(engine)
            inserted = _rate(engine, messages, partial(_insert, rows=rows))
            if n >= 0:
                ours.append(enqueued)
                baseline.append(inserted)
                watch.at(n + 1)
    finally:
        engine.dispose()
    return [
        Comparison(
            figure="enqueue-many",
            unit="messages/s",
            against="SQLAlchemy Core, the same rows",
            ours=tuple(ours),
            baseline=tuple(baseline),
            better="higher",
            target=TARGET,
        )
    ]


def _rate(engine: Engine, messages: int, store: Callable[[Connection], object]) -> float:
    """Return the messages per second of a transaction on empty tables."""
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(each.name for each in _TABLES)} CASCADE"))
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("CHECKPOINT"))
    gc.collect()  # the rows made ready are many objects
    with no_garbage_collected():
        begun = time.perf_counter()
        with engine.begin() as connection:
            store(connection)
        seconds = time.perf_counter() - begun
    with engine.connect() as connection:
        for table in _TABLES:
            found = connection.scalar(select(func.count()).select_from(table))
            if found != messages:
                raise BenchFailed(f"enqueue-many: {table.name} holds {found} rows of {messages}")
    return messages / seconds


def _stored(engine: Engine) -> _Rows:
    with engine.connect() as connection:
        return [
            (table, [dict(row) for row in connection.execute(select(table)).mappings()]) for table in _TABLES
        ]


def _insert(connection: Connection, rows: _Rows) -> None:
    for table, of_it in rows:
        connection.execute(table.insert(), of_it)
