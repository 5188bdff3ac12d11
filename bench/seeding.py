"""Filling an outbox with very many messages by a few statements, each row a copy of what the service wrote.

One message was enqueued as a shop does it, or delivered by a worker. The server copies its rows and puts
the copy's identity wherever the model's stands: in its key, document, digests, terms and attempt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import Connection, Table, delete, select, text

from orderflow_outbox import enqueue_many
from orderflow_outbox.messages import check
from orderflow_outbox.tables import attempt, body, item, message, term
from worker.store.indexing import has_unindexed, index
from worker.store.transactions import Store, Transaction

from .orders import order
from .stage import reaching

MODEL = "seed-model"
CONNECTIONS = 2

_SAME = "replace({}, :model_name, new.name)"
_SAME_IN_BYTES = "convert_to(replace(convert_from({}, 'UTF8'), :model_name, new.name), 'UTF8')"
_SAME_IN_JSON = "CAST(replace(CAST({} AS text), :model_name, new.name) AS json)"
_EARLIER = "{} - (:last - new.n) * interval '50 milliseconds'"

_PAYLOAD = "convert_to(replace(:document, :model_name, new.name), 'UTF8')"
_DIGEST = f"encode(sha256({_PAYLOAD}), 'hex')"
_CONTENT = f"replace(replace(:content, :model_name, new.name), :model_sha, {_DIGEST})"

_MESSAGE = {
    "id": "new.id",
    "position": "new.id",
    "idempotency_key": _SAME,
    "key": _SAME,
    "fingerprint": f"sha256(convert_to({_CONTENT}, 'UTF8'))",
}
_NOW = {"created_at": "clock_timestamp()", "due_at": "clock_timestamp()"}
_HISTORY = {"created_at": _EARLIER, "finished_at": _EARLIER}
_BODY = {"message_id": "new.id", "payload": _PAYLOAD, "sha256": f"sha256({_PAYLOAD})"}
_TERM = {"message_id": "new.id", "value": _SAME}
_ATTEMPT = {
    "message_id": "new.id",
    "request_headers": _SAME_IN_JSON,
    "reply_body": _SAME_IN_BYTES,
    "started_at": _EARLIER,
    "finished_at": _EARLIER,
}
_ITEM = {"message_id": "new.id", "reference": _SAME}

_COPIES_FROM = """
      FROM {table} AS model,
           (SELECT n, CAST(:first_id AS bigint) + n AS id,
                   :prefix || '-' || lpad(CAST(n AS text), greatest(6, length(CAST(n AS text))), '0') AS name
              FROM generate_series(CAST(0 AS bigint), CAST(:last AS bigint)) AS n) AS new
     WHERE model.{number} = :model
"""
_NUMBERS = text(
    "SELECT setval('outbox_message_id_seq', nextval('outbox_message_id_seq') + :count) - :count + 1"
)


def seed_pending(
    url: str, prefix: str, count: int, destination: str = "main", with_terms: bool = True
) -> None:
    """Add messages as `enqueue` stores them and the indexer leaves them, due now; none may be sent meanwhile.

    Args:
        url: the database, a PostgreSQL one with the outbox tables in it.
        prefix: of their identities, which are those that `orders.identities` makes.
        count: how many.
        with_terms: False leaves out what they are found by, where nothing looks for it: that halves the time.
    """
    with _transaction(url) as connection:
        (model,) = enqueue_many(connection, [order(MODEL, destination)])
        while index(Transaction(connection, datetime.now(UTC))):
            pass
    changes = {message: {**_MESSAGE, **_NOW}, body: _BODY}
    _copy(url, model.id, MODEL, prefix, count, {term: _TERM, **changes} if with_terms else changes)
    with _transaction(url) as connection:
        connection.execute(delete(term).where(term.c.message_id == model.id))
        connection.execute(delete(body).where(body.c.message_id == model.id))
        connection.execute(delete(message).where(message.c.id == model.id))


def seed_finished(url: str, prefix: str, count: int, like: str) -> None:
    """Add messages as a worker leaves them once they are delivered, the last ones now and the others before.

    Args:
        url: as of `seed_pending`, and so are `prefix` and `count`.
        like: the identity of a message in it that was delivered, and indexed.
    """
    with _transaction(url) as connection:
        model = connection.scalar(select(message.c.id).where(message.c.idempotency_key == like))
    changes = {
        term: _TERM,
        message: {**_MESSAGE, **_HISTORY},
        body: _BODY,
        attempt: _ATTEMPT,
        item: _ITEM,
    }
    _copy(url, model, like, prefix, count, changes)


def is_indexed(url: str) -> bool:
    """Tell whether every message is found by its terms."""
    with reaching(url) as engine, Store(engine).reading() as look:
        return not has_unindexed(look)


def _copy(
    url: str,
    model: int | None,
    name: str,
    prefix: str,
    count: int,
    changes: Mapping[Table, Mapping[str, str]],
) -> None:
    """Copy the rows of a model, a few tables at once."""
    checked = check(order(name))
    with _transaction(url) as connection:
        first_id = connection.scalar(_NUMBERS, {"count": count})
    given = {
        "model": model,
        "model_name": name,
        "model_sha": (checked.sha256 or b"").hex(),
        "content": ascii(checked.content()),
        "document": (checked.payload or b"").decode(),
        "prefix": prefix,
        "last": count - 1,
        "first_id": first_id,
    }

    def fill(table: Table) -> None:
        statement = text(_copies(table, changes[table]))
        with _transaction(url) as connection:
            connection.execute(statement, {each: given[each] for each in statement._bindparams})

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(fill, changes))


def _copies(table: Table, changed: Mapping[str, str]) -> str:
    number = "id" if table is message else "message_id"
    values = [changed.get(each.name, "{}").format(f"model.{each.name}") for each in table.columns]
    columns = ", ".join(each.name for each in table.columns)
    source = _COPIES_FROM.format(table=table.name, number=number)
    return f"INSERT INTO {table.name} ({columns}) SELECT {', '.join(values)} {source}"


@contextmanager
def _transaction(url: str) -> Iterator[Connection]:
    """Open a transaction of copies: a checkpoint puts them on disk, and foreign keys need no look."""
    with reaching(url) as engine, engine.begin() as connection:
        connection.execute(text("SET LOCAL synchronous_commit = off"))
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        yield connection
