"""Storing new messages in SQLite: it lives in the shop's process, where a few statements cost little."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.sqlite import insert

from orderflow_outbox.clock import sqlite_now
from orderflow_outbox.errors import NotTransactional
from orderflow_outbox.messages import CheckedMessage
from orderflow_outbox.tables import body, message, unindexed
from orderflow_outbox.types import sortable_text

from .by_driver import Driver, DriverStatement
from .rows import AT_FIRST, MESSAGE_COLUMNS, SAME_IDENTITY, Stored, body_row, message_row

_sequence = Table("sqlite_sequence", MetaData(), Column("name", String), Column("seq", Integer))

# The number AUTOINCREMENT gives next. Only the holder of the write lock inserts, so none comes between.
_next_number = select(
    func.coalesce(func.max(_sequence.c.seq), literal_column("0")) + literal_column("1")
).where(_sequence.c.name == literal_column(f"'{message.name}'"))

_insert_message = DriverStatement(
    insert(message)
    .values(**AT_FIRST, position=_next_number.scalar_subquery())
    .on_conflict_do_nothing(**SAME_IDENTITY),
    (*MESSAGE_COLUMNS, "blocks", "created_at", "due_at"),
)
_inserted = select(message.c.id, message.c.destination, message.c.idempotency_key).where(
    message.c.id >= bindparam("since")
)
_insert_body = DriverStatement(
    body.insert().values(
        query=bindparam("query_json", type_=Text()), headers=bindparam("headers_json", type_=Text())
    ),
    ("message_id", "payload", "sha256"),
)
_insert_unindexed = DriverStatement(unindexed.insert())


def store_one(connection: Connection, checked: CheckedMessage) -> Stored | None:
    """Insert a message; see `orderflow_outbox.storing.store_one`."""
    with Driver(connection) as driver:
        _check_open(connection)
        return _store_one(driver, checked, sqlite_now())


def store(connection: Connection, messages: Sequence[CheckedMessage]) -> list[Stored | None]:
    """Insert `messages`; see `orderflow_outbox.storing.store`."""
    with Driver(connection) as driver:
        _check_open(connection)
        now = sqlite_now()
        first = [_store_one(driver, each, now) for each in messages[:1]]  # takes the write lock
        return first + _store_rest(driver, connection, messages[1:], now) if len(messages) > 1 else first


def _check_open(connection: Connection) -> None:
    """Refuse a transaction that is SQLAlchemy's alone: what is stored then commits by itself."""
    if not getattr(connection.connection.driver_connection, "in_transaction", True):
        raise NotTransactional(
            "SQLite has no transaction open here: it ended this one itself, as by ON CONFLICT ROLLBACK: roll "
            "back and begin anew; or prepare was called on another engine than this one"
        )


def _store_one(driver: Driver, checked: CheckedMessage, now: datetime) -> Stored | None:
    number = driver.insert(_insert_message, _message(checked, now))
    if number is None:
        return None
    driver.run(_insert_body, _body(checked, number))
    driver.run(_insert_unindexed, _unindexed(checked, number))
    return Stored(number, now, _due_at(checked, now))


def _store_rest(
    driver: Driver, connection: Connection, messages: Sequence[CheckedMessage], now: datetime
) -> list[Stored | None]:
    """Insert messages once the write lock is held, so that all numbers from the next one on are theirs."""
    since = connection.scalar(_next_number)
    driver.run_many(_insert_message, [_message(each, now) for each in messages])
    by_identity = {
        (row.destination, row.idempotency_key): row.id
        for row in connection.execute(_inserted, {"since": since})
    }
    # Taken out as it is found: of several with one identity, the first has been inserted.
    numbers = [by_identity.pop((each.destination, each.idempotency_key), None) for each in messages]
    new = [(each, number) for each, number in zip(messages, numbers, strict=True) if number is not None]
    driver.run_many(_insert_body, [_body(*each) for each in new])
    driver.run_many(_insert_unindexed, [_unindexed(*each) for each in new])
    return [
        None if number is None else Stored(number, now, _due_at(each, now))
        for each, number in zip(messages, numbers, strict=True)
    ]


def _due_at(checked: CheckedMessage, now: datetime) -> datetime:
    return now if checked.deliver_after is None else checked.deliver_after.astimezone(UTC)


def _message(checked: CheckedMessage, now: datetime) -> dict[str, Any]:
    row = message_row(checked)
    row["blocks"] = checked.key is not None
    row["created_at"] = row["due_at"] = sortable_text(now)
    if checked.deliver_after is not None:
        row["due_at"] = sortable_text(checked.deliver_after)
    if checked.expires_at is not None:
        row["expires_at"] = sortable_text(checked.expires_at)
    return row


def _body(checked: CheckedMessage, number: int) -> dict[str, Any]:
    return {"message_id": number, **body_row(checked)}


def _unindexed(checked: CheckedMessage, number: int) -> dict[str, Any]:
    return {"message_id": number, "terms": checked.terms}
