"""Storing new messages in SQLite: it lives in the shop's process, where a few statements cost little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.sqlite import insert

from orderflow_outbox.clock import database_now
from orderflow_outbox.messages import CheckedMessage
from orderflow_outbox.tables import body, message, term
from orderflow_outbox.types import UtcDateTime

from .rows import AT_FIRST, SAME_IDENTITY, Stored, message_row

_sequence = Table("sqlite_sequence", MetaData(), Column("name", String), Column("seq", Integer))

# The number AUTOINCREMENT gives next. Only the holder of the write lock inserts, so none comes between.
_next_number = select(
    func.coalesce(func.max(_sequence.c.seq), literal_column("0")) + literal_column("1")
).where(_sequence.c.name == literal_column(f"'{message.name}'"))

_insert_messages = (
    insert(message)
    .values(
        **AT_FIRST,
        position=_next_number.scalar_subquery(),
        blocks=bindparam("key_given"),
        created_at=database_now(),
        due_at=func.coalesce(bindparam("deliver_after", type_=UtcDateTime()), database_now()),
    )
    .on_conflict_do_nothing(**SAME_IDENTITY)
)
_insert_message = _insert_messages.returning(message.c.id, message.c.created_at, message.c.due_at)
_inserted = select(
    message.c.id, message.c.created_at, message.c.due_at, message.c.destination, message.c.idempotency_key
).where(message.c.id >= bindparam("since"))
_insert_body = body.insert()
_insert_terms = term.insert()


def store(connection: Connection, messages: Sequence[CheckedMessage]) -> list[Stored | None]:
    """Insert `messages`; see `orderflow_outbox.storing.store`."""
    stored = [_store_row(connection, each) for each in messages[:1]]  # takes the write lock
    if len(messages) > 1:
        stored += _store_rows(connection, messages[1:])
    new = [(checked, row.id) for checked, row in zip(messages, stored, strict=True) if row is not None]
    if new:
        connection.execute(_insert_body, [_body(checked, number) for checked, number in new])
    terms = [
        {"name": name, "value": value, "message_id": number}
        for checked, number in new
        for name, value in checked.terms
    ]
    if terms:
        connection.execute(_insert_terms, terms)
    return stored


def _store_row(connection: Connection, checked: CheckedMessage) -> Stored | None:
    row = connection.execute(_insert_message, _message(checked)).one_or_none()
    return None if row is None else Stored(row.id, row.created_at, row.due_at)


def _store_rows(connection: Connection, messages: Sequence[CheckedMessage]) -> list[Stored | None]:
    """Insert messages once the write lock is held, so that all numbers from the next one on are theirs."""
    since = connection.scalar(_next_number)
    connection.execute(_insert_messages, [_message(each) for each in messages])
    by_identity = {
        (row.destination, row.idempotency_key): Stored(row.id, row.created_at, row.due_at)
        for row in connection.execute(_inserted, {"since": since})
    }
    # Taken out as it is found: of several with one identity, the first has been inserted.
    return [by_identity.pop((each.destination, each.idempotency_key), None) for each in messages]


def _message(checked: CheckedMessage) -> dict[str, Any]:
    return {
        **message_row(checked),
        "key_given": checked.key is not None,
        "deliver_after": checked.deliver_after,
    }


def _body(checked: CheckedMessage, number: int) -> dict[str, Any]:
    return {
        "message_id": number,
        "payload": checked.payload,
        "sha256": checked.sha256,
        "query": checked.query,
        "headers": checked.headers,
    }
