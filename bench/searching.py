"""The figures `search-term` and `search-text`: what a search takes in very many messages, on each database.

All are copies, made by SQL, of one order as the service leaves it once it is delivered and indexed. Each
round looks for another order, by several lines, and what counts is the slowest of them. Beside it a message
is looked up by its number.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, Table, select, text

from orderflow_outbox import State, enqueue_many
from orderflow_outbox.tables import PLACES, attempt, body, dead_letter, full_text, incident, message, term
from worker import schema
from worker.search.finding import find
from worker.search.language import parse
from worker.store import text_index
from worker.store.indexing import index, index_texts
from worker.store.transactions import Store, Transaction

from .comparing import Comparison
from .judging import report
from .orders import order
from .plan import Plan
from .stage import BenchFailed, Stage, reaching
from .watching import Watch

MODEL = "seed-model"
ROUNDS = 20
DEAD = 100
"""One of so many is dead, with an open letter."""
FOUND = 20
"""Messages of a page."""
TERM_MS, TEXT_MS = 100.0, 300.0

Lines = Callable[[str], Sequence[str]]
"""What is searched for in a round, for the name of an order."""

_NUMBERS = {
    "postgresql": "(SELECT number FROM generate_series(2, :count) AS number)",
    "sqlite": "(WITH RECURSIVE upto(number) AS"
    " (SELECT 2 UNION ALL SELECT number + 1 FROM upto WHERE number < :count)"
    " SELECT number FROM upto)",
}
_NAME = {
    "postgresql": "'SO-' || lpad(CAST(number AS text), 7, '0')",
    "sqlite": "'SO-' || substr('0000000' || number, -7)",
}


def by_terms(name: str) -> Sequence[str]:
    """Return searches for an order by its terms, alone and with what many others have, too."""
    return (
        name,
        f"order:{name}",
        f"key:order:{name} state:delivered",
        "sku:SKU-00001",
        "sku:SKU-00001 state:dead",
        f"sku:SKU-00001 reference:{name}",
        "sku:SKU-00001 after:2h status:200",
    )


def by_text(name: str) -> Sequence[str]:
    """Return searches for pieces of text: of one message, of all, of none, alone and with others."""
    return (
        f'"{name}"',
        f'request:"{name.lower()}" operation:order-import',
        'request:"Mug, stoneware"',
        'request:"Mug, stoneware" state:dead',
        f'reply:"{name}" request:stoneware status:200',
        '"nowhere to be found"',
    )


def take_terms(stage: Stage, plan: Plan, watch: Watch, figure: str, database: str) -> list[Comparison]:
    """Take the figure of searches by terms, in the whole of the crowd."""
    return _take(stage, plan.crowd, watch, figure, database, by_terms, TERM_MS, with_texts=False)


def take_texts(stage: Stage, plan: Plan, watch: Watch, figure: str, database: str) -> list[Comparison]:
    """Take the figure of searches by pieces of text, in a fifth of the crowd."""
    return _take(stage, plan.crowd // 5, watch, figure, database, by_text, TEXT_MS, with_texts=True)


def _take(
    stage: Stage,
    count: int,
    watch: Watch,
    figure: str,
    database: str,
    lines: Lines,
    most: float,
    with_texts: bool,
) -> list[Comparison]:
    watch.round(figure)
    slowest, by_number = [], []
    with _outbox(stage, database) as engine:
        watch.begin("filling", count)
        fill(engine, count, with_texts)
        store = Store(engine)
        of_lines: list[list[float]] = []
        watch.begin("searches", ROUNDS)
        for n in range(ROUNDS):
            number = (3 + n * (count - 4) // ROUNDS) | 1  # odd ones are not dead
            took = [milliseconds(store, line) for line in lines(f"SO-{number:07d}")]
            of_lines.append(took)
            slowest.append(max(took))
            by_number.append(milliseconds(store, f"id:{number}"))
            watch.at(n + 1)
    medians = {
        line: statistics.median(took)
        for line, took in zip(lines("SO-…"), zip(*of_lines, strict=True), strict=True)
    }
    return [
        Comparison(
            figure=figure,
            unit="ms",
            against="by its number",
            ours=tuple(slowest),
            baseline=tuple(by_number),
            better="lower",
            target=None,
            most_added=most,
            notes={"messages": float(count), **medians},
        )
    ]


def milliseconds(store: Store, line: str) -> float:
    """Return how long a search takes.

    Raises:
        BenchFailed: it did not end, or found nothing where something is.
    """
    query = parse(line)
    begun = time.perf_counter()
    found = find(store, query, FOUND)
    took = 1000 * (time.perf_counter() - begun)
    if found.out_of_time or (not found.hits and "nowhere" not in line):
        raise BenchFailed(f"a search found nothing, or did not end: {line}")
    return took


@contextmanager
def _outbox(stage: Stage, database: str) -> Iterator[Engine]:
    folder, url = stage.new_round(database)
    with reaching(url) as engine:
        schema.upgrade(engine)
        yield engine
    stage.end_round(folder)


def fill(engine: Engine, count: int, with_texts: bool) -> None:
    """Fill empty tables with `count` messages.

    Args:
        with_texts: whether documents and texts are copied, too.
    """
    with engine.begin() as connection:
        _model(connection)
    tables = (message, term, attempt, *((body, full_text) if with_texts else ()))
    for table in tables:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SET LOCAL synchronous_commit = off"))
                connection.execute(text("SET LOCAL session_replication_role = replica"))
                if table is full_text:  # made at once it takes a fraction of the time
                    connection.execute(text(f"DROP INDEX {text_index.NAME}"))
            connection.execute(text(_copies(table, engine.dialect.name)), {"model": MODEL, "count": count})
            text_index.ensure(connection)
    with engine.begin() as connection:
        _bury_some(connection)
    if engine.dialect.name == "postgresql":
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("VACUUM ANALYZE"))
            connection.execute(text("CHECKPOINT"))


def _model(connection: Connection) -> None:
    """Make the first message, as the service leaves it."""
    (model,) = enqueue_many(connection, [order(MODEL)])
    now = datetime.now(UTC)
    connection.execute(
        message.update().values(
            state=State.DELIVERED.value, due_at=None, blocks=False, attempts=1, finished_at=now
        )
    )
    connection.execute(
        attempt.insert().values(
            message_id=model.id,
            n=1,
            started_at=now,
            finished_at=now,
            seconds=0.1,
            request_line="POST",
            request_headers={},
            status=200,
            reply_headers=[],
            reply_body=report(1).replace(b"SO-1", MODEL.encode()),
            reply_complete=True,
            verdict="delivered",
            reason="imported",
            in_doubt=False,
        )
    )
    transaction = Transaction(connection, now)
    index(transaction)
    index_texts(transaction)
    reply = report(1).decode().replace("SO-1", MODEL).lower()
    connection.execute(full_text.insert().values(place=model.id * PLACES + 1, text=reply))


def _copies(table: Table, database: str) -> str:
    """Return the statement that copies a table's rows of the model, each with a name of its own."""
    name = _NAME[database]
    same = f"replace({{}}, :model, {name})"
    if database == "sqlite":
        in_bytes = f"CAST(replace(CAST({{}} AS text), :model, {name}) AS blob)"
    else:
        in_bytes = f"convert_to(replace(convert_from({{}}, 'UTF8'), :model, {name}), 'UTF8')"
    changed = {
        message: {"id": "number", "position": "number", "idempotency_key": same, "key": same},
        term: {"message_id": "number", "value": same},
        attempt: {"message_id": "number", "reply_body": in_bytes},
        body: {"message_id": "number", "payload": in_bytes},
        full_text: {
            "place": f"number * {PLACES} + model.place % {PLACES}",
            "text": f"replace({{}}, :model, lower({name}))",
        },
    }[table]
    columns = [each.name for each in table.columns]
    values = [changed.get(each, "{}").format(f"model.{each}") for each in columns]
    ordered = "1, 2, 3" if table is term else "number"
    return (
        f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT {', '.join(values)}"  # noqa: S608 (our own names)
        f" FROM {_NUMBERS[database]} AS numbers, {table.name} AS model WHERE true ORDER BY {ordered}"
    )


def _bury_some(connection: Connection) -> None:
    now = datetime.now(UTC)
    is_dead = message.c.id % DEAD == 0
    connection.execute(message.update().where(is_dead).values(state=State.DEAD.value))
    connection.execute(
        incident.insert().values(
            **{"cause": "dead-letters", "destination": "main", "operation": "order-import"},
            **{"reason": "items_failed", "text": "bad"},
            **dict.fromkeys(("opened_at", "updated_at", "oldest_at"), now),
            **dict.fromkeys(("occurrences", "alerted_occurrences", "alert_tries", "alerts_sent"), 1),
            lease_token=1,
        )
    )
    values = select(
        message.c.id,
        select(incident.c.id).scalar_subquery(),
        text("'items_failed'"),
        text("'bad'"),
        text("false"),
        message.c.created_at,
        text("'open'"),
    ).where(is_dead)
    columns = ["message_id", "incident_id", "reason", "text", "in_doubt", "died_at", "resolution"]
    connection.execute(dead_letter.insert().from_select(columns, values))
