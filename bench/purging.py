"""The figure `purge`: what claiming due messages takes while finished ones are purged, and while none is.

One database holds both: what was delivered long ago, and what is due. Claims are made in this process at a
steady pace, and a second thread purges meanwhile as an engine does that has messages in hand, by its own
connection. Rounds with the purge and without take turns; compared are their 99th percentiles.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, select, text

from config import RetentionSettings
from orderflow_outbox import State, enqueue_many
from orderflow_outbox.tables import attempt, body, message, term
from worker import schema
from worker.purge import Purger, pause_after
from worker.store.bulk import insert_many
from worker.store.claiming import claim
from worker.store.indexing import index
from worker.store.transactions import Store, Transaction, database_clock

from .comparing import Comparison
from .garbage import no_garbage_collected
from .latency import quantile
from .orders import identities, order
from .plan import Plan
from .stage import BenchFailed, Stage, reaching
from .watching import Watch

TARGET = 1.5
DUE = 250
CLAIMS = 100
"""Claims of a round."""
PACE_SECONDS = 0.03
"""From the begin of one claim to that of the next, where it does not take longer."""
PIECE = 5000
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
    """Fill empty tables with messages delivered long ago, as a worker left them, and some that are due."""
    with engine.begin() as connection:
        (first,) = enqueue_many(connection, [order("model")])
        while index(Transaction(connection, first.created_at)):
            pass
        row = connection.execute(select(message).where(message.c.id == first.id)).mappings().one()
        its_body = connection.execute(select(body).where(body.c.message_id == first.id)).mappings().one()
        terms = connection.execute(select(term).where(term.c.message_id == first.id)).mappings().all()
    ended = row["created_at"] - AGE
    done = {"state": State.DELIVERED.value, "due_at": None, "blocks": False, "created_at": ended}
    tried = {"n": 1, "finished_at": ended, "seconds": 0.1, "status": 200, "in_doubt": False}
    tried |= {
        "verdict": "delivered",
        "reply_body": b"<importResults/>" * 20,
        "request_line": "POST /web/import",
    }
    for number in range(0, finished, PIECE):
        ids = range(first.id + 1 + number, first.id + 1 + min(number + PIECE, finished))
        with engine.begin() as connection:
            rows = [_copy(row, n, f"old-{n}", finished_at=ended, attempts=1, **done) for n in ids]
            insert_many(connection, message, rows)
            insert_many(connection, body, [{**its_body, "message_id": n} for n in ids])
            insert_many(connection, term, [{**each, "message_id": n} for n in ids for each in terms])
            insert_many(connection, attempt, [{**tried, "message_id": n} for n in ids])
        watch.at(number)
    last = first.id + finished
    with engine.begin() as connection:
        names = dict(enumerate(identities("due", DUE - 1), last + 1))
        insert_many(connection, message, [_copy(row, n, each) for n, each in names.items()])
        insert_many(connection, body, [{**its_body, "message_id": n} for n in names])
    if engine.dialect.name == "postgresql":
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
                connection.execute(text(statement))
    engine.dispose()


def _copy(row: Any, number: int, name: str, **others: Any) -> dict[str, Any]:
    own = {"id": number, "position": number, "idempotency_key": name, "key": f"order:{name}"}
    return {**row, **own, **others}


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
