"""Writing a message into the outbox, inside the caller's own transaction.

Nothing here commits, sends or waits for a broker: the row becomes real with the shop's commit and
disappears with its rollback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, bindparam, func, select, update
from sqlalchemy.orm import Session, scoped_session

from .clock import database_now
from .dialects import INSERTS
from .errors import IdempotencyConflict, InvalidMessage, NotASession, NotTransactional, UnsupportedDatabase
from .hints import mark_enqueued
from .messages import CheckedMessage, Message, NewMessage, check
from .operations import PREDEFINED, Catalogue
from .sqlite import is_prepared
from .states import State
from .tables import body, message

_POSITION_TO_COME = 0

_set_position = update(message).where(message.c.id == bindparam("own_id")).values(position=message.c.id)


_RETURNED = [
    message.c[name]
    for name in Message.__dataclass_fields__
    if name != "created"  # told by whether the INSERT returned a row
]


def _insert_returning(dialect_insert: Callable[[Table], Any]) -> Any:
    """INSERT that returns the stored row, or nothing where the idempotency key is taken."""
    return (
        dialect_insert(message)
        .values(
            created_at=database_now(),
            due_at=func.coalesce(bindparam("deliver_after", type_=message.c.due_at.type), database_now()),
        )
        .on_conflict_do_nothing(
            index_elements=[message.c.destination, message.c.idempotency_key],
            index_where=message.c.replay_of.is_(None),
        )
        .returning(*_RETURNED)
    )


_INSERT = {dialect: _insert_returning(insert) for dialect, insert in INSERTS.items()}


def enqueue(
    session: Session | Connection,
    operation: str,
    payload: bytes | str | None = None,
    *,
    destination: str = "main",
    channel: str | None = None,
    organisation: str | None = None,
    key: str | None = None,
    idempotency_key: str | None = None,
    version: int | None = None,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    deliver_after: datetime | None = None,
    expires_at: datetime | None = None,
    catalogue: Catalogue = PREDEFINED,
) -> Message:
    """Store one message in the transaction of `session`; it is delivered once that commits.

    Args:
        session: a SQLAlchemy Session or Connection on the database that holds the outbox tables.
        operation: what kind of message, such as `order-import`.
        payload: the XML document, at most 5 MiB, sent as given; None where there is no body.
        destination: which OrderFlow, by its name in the destinations file.
        channel: the channel it acts in, where the operation needs one.
        organisation: the organisation it acts in, where the operation needs one.
        key: the business entity, such as `order:SO-1001`: messages of one key and destination
            are delivered in the order they were enqueued.
        idempotency_key: names this message for good: the same key and content return the message
            already stored. Sent as `Idempotency-Key` on every attempt. Default: a random one.
        version: number of the entity's state, where the shop keeps one; the higher is the later.
        query: query parameters.
        headers: further request headers, plain ASCII.
        deliver_after: not before this moment (aware datetime); the largest age counts all the same.
        expires_at: no longer wanted from this moment on (aware datetime).
        catalogue: the operations known; the predefined ones unless given.

    Returns:
        The message with its id; `created` tells whether this call stored it.

    Raises:
        InvalidMessage: refused, nothing written; names the field, the value and the fix.
        IdempotencyConflict: the key belongs to a message with other content.
        NotTransactional: a rollback would not take the message back; on SQLite, `prepare` is missing.
    """
    new = NewMessage(
        operation=operation,
        payload=payload,
        destination=destination,
        channel=channel,
        organisation=organisation,
        key=key,
        idempotency_key=idempotency_key,
        version=version,
        query={} if query is None else query,
        headers={} if headers is None else headers,
        deliver_after=deliver_after,
        expires_at=expires_at,
    )
    return _store(_connection(session), check(new, catalogue))


def enqueue_many(
    session: Session | Connection, messages: Iterable[NewMessage], *, catalogue: Catalogue = PREDEFINED
) -> list[Message]:
    """Store many messages in the transaction of `session`: all of them, or on an error none.

    Args:
        session: a SQLAlchemy Session or Connection on the database that holds the outbox tables.
        messages: what `enqueue` takes, one `NewMessage` each.
        catalogue: the operations known; the predefined ones unless given.

    Returns:
        The stored messages, in the order given.

    Raises:
        InvalidMessage: as `enqueue`; the error also names the message's place, from 0.
        IdempotencyConflict: as `enqueue`.
    """
    checked = [_checked_at(place, new, catalogue) for place, new in enumerate(messages)]
    connection = _connection(session)
    with connection.begin_nested():
        return [_store(connection, each) for each in checked]


def _checked_at(place: int, new: NewMessage, catalogue: Catalogue) -> CheckedMessage:
    if not isinstance(new, NewMessage):
        raise InvalidMessage("", new, "give a NewMessage", place)
    try:
        return check(new, catalogue)
    except InvalidMessage as error:
        raise error.at(place) from None


def _connection(session: object) -> Connection:
    if isinstance(session, scoped_session):
        session = session()
    if not isinstance(session, Session | Connection):
        raise NotASession(session)
    connection = session.connection() if isinstance(session, Session) else session
    dialect = connection.dialect.name
    if dialect not in _INSERT:
        raise UnsupportedDatabase(dialect)
    # Python's sqlite3 by itself begins no transaction before a savepoint: releasing it would commit.
    if dialect == "sqlite" and not is_prepared(connection):
        raise NotTransactional(
            "this SQLite engine begins its transactions too late for a rollback to be sure: call "
            "orderflow_outbox.sqlite.prepare(engine) once, where the engine is made"
        )
    # SQLAlchemy would ask the server, which knows nothing of a driver that commits by itself.
    if dialect != "sqlite" and getattr(connection.connection, "autocommit", False):
        raise NotTransactional("the connection is in AUTOCOMMIT: enqueue in a transaction of the shop's")
    return connection


def _store(connection: Connection, checked: CheckedMessage) -> Message:
    row = connection.execute(_INSERT[connection.dialect.name], _values(checked)).one_or_none()
    if row is None:
        return _existing(connection, checked)
    connection.execute(_set_position, {"own_id": row.id})
    connection.execute(
        body.insert(),
        {
            "message_id": row.id,
            "payload": checked.payload,
            "sha256": checked.sha256,
            "query": checked.query,
            "headers": checked.headers,
        },
    )
    mark_enqueued(connection)
    return _message(row, created=True)


def _values(checked: CheckedMessage) -> dict[str, Any]:
    return {
        "destination": checked.destination,
        "operation": checked.operation.name,
        "channel": checked.channel,
        "organisation": checked.organisation,
        "key": checked.key,
        "position": _POSITION_TO_COME,
        "blocks": checked.key is not None,
        "version": checked.version,
        "idempotency_key": checked.idempotency_key,
        "fingerprint": checked.fingerprint,
        "state": State.PENDING,
        "deliver_after": checked.deliver_after,
        "expires_at": checked.expires_at,
        "attempts": 0,
        "tries": 0,
        "rescues": 0,
        "lease_token": 0,
        "in_doubt": False,
    }


def _existing(connection: Connection, checked: CheckedMessage) -> Message:
    row = connection.execute(
        select(
            *_RETURNED,
            message.c.fingerprint,
            body.c.sha256,
            body.c.query,
            body.c.headers,
        )
        .join_from(message, body)
        .where(
            message.c.destination == checked.destination,
            message.c.idempotency_key == checked.idempotency_key,
            message.c.replay_of.is_(None),
        )
    ).one()
    if row.fingerprint != checked.fingerprint:
        raise IdempotencyConflict(checked.idempotency_key, row.id, _differing(row, checked))
    return _message(row, created=False)


def _differing(row: Any, checked: CheckedMessage) -> tuple[str, ...]:
    stored = {
        **{name: getattr(row, name) for name in checked.content() if name != "payload"},
        "payload": None if row.sha256 is None else row.sha256.hex(),
    }
    return tuple(name for name, value in checked.content().items() if stored[name] != value)


def _message(row: Any, created: bool) -> Message:
    fields = {column.name: getattr(row, column.name) for column in _RETURNED}
    return Message(**{**fields, "state": State(row.state)}, created=created)
