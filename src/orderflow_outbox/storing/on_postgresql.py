"""Storing new messages in PostgreSQL: row, body and search terms by one statement.

What a shop waits for there is the way to its database and back. One message travels as plain
parameters, handed to the driver; many as texts, one for each column, which for a single one would cost
more than storing it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    Integer,
    LargeBinary,
    String,
    Text,
    bindparam,
    cast,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.types import TypeEngine

from orderflow_outbox.clock import database_now
from orderflow_outbox.messages import CheckedMessage
from orderflow_outbox.tables import body, message, message_numbers, unindexed
from orderflow_outbox.types import UtcDateTime, moment_of

from .by_driver import Driver, DriverStatement
from .in_texts import as_texts, rows_in_texts
from .rows import AT_FIRST, SAME_IDENTITY, Stored, body_row, message_row

MESSAGES_PER_STATEMENT = 500
BYTES_PER_STATEMENT = 16 * 1024 * 1024
"""Past so many a statement takes no further message: the server holds all of it, several times over."""

_MESSAGE: dict[str, TypeEngine[Any]] = {
    "destination": String(),
    "operation": String(),
    "channel": String(),
    "organisation": String(),
    "key": String(),
    "version": BigInteger(),
    "idempotency_key": String(),
    "fingerprint": LargeBinary(),
    "expires_at": UtcDateTime(),
}
_BODY: dict[str, TypeEngine[Any]] = {
    "payload": LargeBinary(),
    "sha256": LargeBinary(),
    "query_json": Text(),
    "headers_json": Text(),
}
_GIVEN = {**_MESSAGE, **_BODY, "terms": Text(), "deliver_after": UtcDateTime()}
_MANY = {"nth": Integer(), **_GIVEN}


def store_one(connection: Connection, checked: CheckedMessage) -> Stored | None:
    """Insert a message; see `orderflow_outbox.storing.store_one`."""
    with Driver(connection) as driver:
        row = driver.fetch(_store_one, _row(checked))
    return None if row is None else Stored(row[0], moment_of(row[1]), moment_of(row[2]))


def store(connection: Connection, messages: Sequence[CheckedMessage]) -> list[Stored | None]:
    """Insert `messages`; see `orderflow_outbox.storing.store`."""
    stored: list[Stored | None] = []
    for group in _groups(messages):
        if len(group) == 1:
            stored.append(store_one(connection, group[0]))
            continue
        rows = connection.execute(_store_many, _many(group))
        by_place = {row.place: Stored(row.id, row.created_at, row.due_at) for row in rows}
        stored += [by_place.get(place) for place in range(len(group))]
    return stored


def _groups(messages: Sequence[CheckedMessage]) -> Iterator[Sequence[CheckedMessage]]:
    start = size = 0
    for place, each in enumerate(messages):
        if place - start == MESSAGES_PER_STATEMENT or size >= BYTES_PER_STATEMENT:
            yield messages[start:place]
            start, size = place, 0
        size += len(each.payload or b"")
    if start < len(messages):
        yield messages[start:]


def _many(messages: Sequence[CheckedMessage]) -> dict[str, str]:
    return as_texts(_MANY, [{"nth": place, **_row(each)} for place, each in enumerate(messages)])


def _row(checked: CheckedMessage) -> dict[str, Any]:
    return {
        **message_row(checked),
        **body_row(checked),
        "terms": checked.terms,
        "deliver_after": checked.deliver_after,
    }


# The statements. Rows given by texts come through unnest; a number is drawn before its row is
# inserted, because the row holds it twice: as its id, and as its place in the order of its key.


def _insert_messages(source: Any, given: Any) -> Any:
    numbered = select(
        source.c.id,
        source.c.id,
        given["key"].is_not(None),
        database_now(),
        func.coalesce(given["deliver_after"], database_now()),
        *(given[column] for column in _MESSAGE),
        *AT_FIRST.values(),
    ).select_from(source)
    columns = ["id", "position", "blocks", "created_at", "due_at", *_MESSAGE, *AT_FIRST]
    return (
        insert(message)
        .from_select(columns, numbered, include_defaults=False)
        .on_conflict_do_nothing(**SAME_IDENTITY)
        .returning(message.c.id, message.c.created_at, message.c.due_at)
        .cte("stored")
    )


def _insert_bodies(source: Any, number: Any, given: Any) -> Any:
    documents = (cast(given[name], JSON) for name in ("query_json", "headers_json"))
    rows = select(number, given["payload"], given["sha256"], *documents).select_from(source)
    columns = ["message_id", "payload", "sha256", "query", "headers"]
    return body.insert().from_select(columns, rows, include_defaults=False).cte("bodies")


def _insert_unindexed(source: Any, number: Any, given: Any) -> Any:
    rows = select(number, given["terms"]).select_from(source)
    return unindexed.insert().from_select(["message_id", "terms"], rows, include_defaults=False).cte("words")


def _statement_for_one() -> Any:
    given = {column: cast(bindparam(column, type_=type_), type_) for column, type_ in _GIVEN.items()}
    new = select(message_numbers.next_value().label("id")).subquery("new")
    stored = _insert_messages(new, given)
    return select(stored).add_cte(
        _insert_bodies(stored, stored.c.id, given),
        _insert_unindexed(stored, stored.c.id, given),
    )


def _statement_for_many() -> Any:
    given = rows_in_texts("given", _MANY)
    in_order = select(given).order_by(given.c.nth).subquery("in_order")
    new = select(message_numbers.next_value().label("id"), in_order).cte("new")
    stored = _insert_messages(new, new.c)
    new_stored = new.join(stored, stored.c.id == new.c.id)
    return (
        select(new.c.nth.label("place"), stored)
        .select_from(new_stored)
        .add_cte(
            _insert_bodies(new_stored, new.c.id, new.c),
            _insert_unindexed(new_stored, new.c.id, new.c),
        )
    )


_store_one = DriverStatement(_statement_for_one())
_store_many = _statement_for_many()
