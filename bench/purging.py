"""The figure `purge`: what claiming due messages takes while finished ones are purged, and while none is.

One database holds both: what was delivered long ago, and what is due. Claims are made in this process at a
steady pace, and a second thread purges meanwhile as an engine does that has messages in hand, by its own
connection. Rounds with the purge and without take turns; compared are their 99th percentiles.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    String,
    Table,
    cast,
    literal,
    select,
    text,
)

from config import RetentionSettings
from orderflow_outbox import Message, State, enqueue_many
from orderflow_outbox.tables import attempt, body, message, term
from worker import schema
from worker.purge import Purger, pause_after
from worker.store.claiming import claim
from worker.store.indexing import index
from worker.store.transactions import Store, Transaction, database_clock

from .comparing import Comparison
from .garbage import no_garbage_collected
from .latency import quantile
from .orders import order
from .plan import Plan
from .stage import BenchFailed, Stage, reaching
from .watching import Watch

TARGET = 1.5
DUE = 250
CLAIMS = 100
"""Claims of a round."""
PACE_SECONDS = 0.03
"""From the begin of one claim to that of the next, where it does not take longer."""
PIECE = 50_000
ATTEMPT = {
    "n": 1,
    "seconds": 0.1,
    "status": 200,
    "in_doubt": False,
    "verdict": "delivered",
    "reply_body": b"<importResults/>" * 20,
    "request_line": "POST /web/import",
}
"""What was noted of the only attempt of a message that was delivered."""
LEASE = timedelta(seconds=90)
AGE = timedelta(days=400)
DESTINATION = "main"


def take(stage: Stage, plan: Plan, watch: Watch, figure: str, database: str) -> list[Comparison]:
    """Take the figure on one kind of database.

    Raises:
        BenchFailed: a claim did not get every due message, or nothing was purged.
    """
    _, url = stage.new_round(database)
    watch.round(figure)
    during, alone = [], []
    with reaching(url) as engine, reaching(url) as another:
        schema.upgrade(engine)
        watch.begin("filling", plan.crowd)
        fill(engine, plan.crowd, watch)
        purger = Purger(Store(another), RetentionSettings())
        watch.begin("rounds in turn", 2 * plan.rounds)
        claims_milliseconds(engine)
        spent = 0.0
        for n in range(plan.rounds):
            alone.append(quantile(claims_milliseconds(engine), 0.99))
            begun = time.monotonic()
            with purging(purger):
                during.append(quantile(claims_milliseconds(engine), 0.99))
            spent += time.monotonic() - begun
            watch.at(2 * (n + 1))
        gone = purger.gone[State.DELIVERED]
    if not gone:
        raise BenchFailed(f"{figure}: nothing was purged")
    return [
        Comparison(
            figure=figure,
            unit="ms",
            against="nothing purged",
            ours=tuple(during),
            baseline=tuple(alone),
            better="lower",
            target=TARGET,
            notes={"purged": float(gone), "purged, messages/s": gone / spent},
        )
    ]


def fill(engine: Engine, finished: int, watch: Watch) -> None:
    """Fill empty tables with messages delivered long ago, as a worker left them, and some that are due.

    Each is a copy of one that was enqueued.
    """
    with engine.begin() as connection:
        (model,) = enqueue_many(connection, [order("model")])
        while index(Transaction(connection, model.created_at)):
            pass
    first, last = model.id + 1, model.id + finished
    for begin in range(first, last + 1, PIECE):
        with engine.begin() as connection:
            _copy(connection, model, begin, min(begin + PIECE - 1, last), "old", _delivered(model))
        watch.at(begin - first)
    with engine.begin() as connection:
        _copy(connection, model, last + 1, last + DUE - 1, "due")
    if engine.dialect.name == "postgresql":
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
                connection.execute(text(statement))
    engine.dispose()


def _delivered(model: Message) -> dict[str, Any]:
    """Return what is other in a message that was delivered long ago."""
    ended = model.created_at - AGE
    return {
        "state": State.DELIVERED.value,
        "due_at": None,
        "blocks": False,
        "attempts": 1,
        "created_at": ended,
        "finished_at": ended,
    }


def _copy(
    connection: Connection,
    model: Message,
    first: int,
    last: int,
    name: str,
    delivered: Mapping[str, Any] | None = None,
) -> None:
    """Copy a message to each number from `first` to `last`.

    Args:
        name: begins the identities of the copies.
        delivered: what is other in them, where they were delivered: these have an attempt.
    """
    numbers = select(literal(first).label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < last))
    identity = literal(f"{name}-") + cast(numbers.c.n, String)
    own = {
        "id": numbers.c.n,
        "position": numbers.c.n,
        "idempotency_key": identity,
        "key": literal("order:") + identity,
    }
    changes: dict[Table, Mapping[str, Any]] = {message: {**own, **(delivered or {})}}
    changes |= {table: {"message_id": numbers.c.n} for table in (body, term)}
    for table, changed in changes.items():
        of_model = (message.c.id if table is message else table.c.message_id) == model.id
        values = [_as(each, changed[each.name]) if each.name in changed else each for each in table.c]
        rows = select(*values).select_from(numbers).join(table, of_model)
        connection.execute(table.insert().from_select(list(table.c), rows, include_defaults=False))
    if delivered is not None:
        given = {**ATTEMPT, "finished_at": delivered["finished_at"], "message_id": numbers.c.n}
        values = [_as(attempt.c[each], value) for each, value in given.items()]
        connection.execute(attempt.insert().from_select(list(given), select(*values), include_defaults=False))


def _as(column: Column[Any], value: Any) -> ColumnElement[Any]:
    """Return a value as one of a column."""
    return value if isinstance(value, ColumnElement) else literal(value, column.type)


def claims_milliseconds(engine: Engine) -> list[float]:
    """Return how long each claim of a round took, in ms, the wait for its transaction included.

    Raises:
        BenchFailed: one did not get all that is due.
    """
    took = []
    with no_garbage_collected():
        for _ in range(CLAIMS):
            begun = time.perf_counter()
            with engine.connect() as connection:  # rolled back at the end: all are due again
                transaction = Transaction(connection, database_clock(connection))
                got = len(claim(transaction, DESTINATION, DUE, LEASE).claims)
                ended = time.perf_counter()
            if got != DUE:
                raise BenchFailed(f"purge: a claim got {got} messages of {DUE}")
            took.append(1000 * (ended - begun))
            time.sleep(max(0.0, begun + PACE_SECONDS - time.perf_counter()))
    return took


@contextmanager
def purging(purger: Purger) -> Iterator[None]:
    """Purge for the length of the block, as an engine does while messages are in hand."""
    enough = threading.Event()

    def purge() -> None:
        more = True
        while more and not enough.is_set():
            begun = time.monotonic()
            more = purger.purge_some()
            enough.wait(pause_after(time.monotonic() - begun, more=True, busy=True))

    thread = threading.Thread(target=purge)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
