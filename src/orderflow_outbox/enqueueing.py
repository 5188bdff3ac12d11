"""Writing a message into the outbox, inside the caller's own transaction.

Nothing here commits, sends or waits for a broker: the row becomes real with the shop's commit and
disappears with its rollback.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select

from .catalogue import PREDEFINED, Catalogue
from .connections import AnySession, fit_connection
from .errors import IdempotencyConflict, InvalidMessage
from .hints import mark_enqueued
from .messages import CheckedMessage, Message, NewMessage, check
from .states import State
from .storing import Stored, store, store_one
from .superseding import retire_obsolete
from .tables import body, message

KEYS_PER_STATEMENT = 500

_RETURNED = [message.c[name] for name in Message.__dataclass_fields__ if name != "created"]

_holders = (
    select(*_RETURNED, message.c.fingerprint, body.c.sha256, body.c.query, body.c.headers)
    .join_from(message, body, body.c.message_id == message.c.id)
    .where(
        message.c.destination == bindparam("of_destination"),
        message.c.idempotency_key.in_(bindparam("keys", expanding=True)),
        message.c.replay_of.is_(None),
    )
)


def enqueue(
    session: AnySession,
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
            are delivered in the order they were enqueued. Default: by the operation's rule, if any.
        idempotency_key: names this message for good: the same key and content return the message
            already stored. Sent as `Idempotency-Key` on every attempt. Default: a random one.
        version: number of the entity's state, where the shop keeps one: of messages that make each other
            obsolete the higher one counts, in whatever order they are enqueued. Give one with each message
            of a key, or with none.
        query: query parameters.
        headers: further request headers, plain ASCII.
        deliver_after: not before this moment (aware datetime), or now if that is past; the largest age
            counts all the same.
        expires_at: no longer wanted from this moment on (aware datetime).
        catalogue: the operations known, as read by `Catalogue.load`; by default the predefined ones.

    Returns:
        The message with its id; `created` tells whether this call stored it.

    Raises:
        InvalidMessage: refused, nothing written; names the field, the value and the fix.
        IdempotencyConflict: the key belongs to a message with other content.
        NotTransactional: a rollback would not take the message back; on SQLite, `prepare` is missing.
        UnsupportedSchema: the database has no outbox tables, or those of another release.
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
    checked = check(new, catalogue)
    connection = fit_connection(session)
    while (stored := store_one(connection, checked)) is None:
        holders = _Holders(connection, [checked])
        if checked in holders:  # else it was purged in between
            return holders.repeat(checked)
    mark_enqueued(connection)
    retired = retire_obsolete(connection, [(checked, stored.id)], catalogue)
    return _new_message(checked, stored, stored.id in retired)


def enqueue_many(
    session: AnySession, messages: Iterable[NewMessage], *, catalogue: Catalogue = PREDEFINED
) -> list[Message]:
    """Store many messages in the transaction of `session`: all of them, or on an error none.

    Args:
        session: a SQLAlchemy Session or Connection on the database that holds the outbox tables.
        messages: what `enqueue` takes, one `NewMessage` each.
        catalogue: the operations known; the predefined ones unless given.

    Returns:
        The stored messages, in the order given.

    Raises:
        InvalidMessage: as `enqueue`; the error names the place of the first one refused, from 0.
        IdempotencyConflict: as `enqueue`, and with the place.
        NotTransactional: as `enqueue`.
        UnsupportedSchema: as `enqueue`.
    """
    if not isinstance(messages, Iterable) or isinstance(messages, str | bytes | Mapping):
        raise InvalidMessage("messages", messages, "give a list of NewMessage")
    checked = [_checked_at(place, new, catalogue) for place, new in enumerate(messages)]
    connection = fit_connection(session)
    with connection.begin_nested():
        stored = _stored(connection, checked, catalogue)
        while True:
            repeated = [place for place, new in enumerate(stored) if new is None]
            holders = _Holders(connection, [checked[place] for place in repeated])
            purged = [place for place in repeated if checked[place] not in holders]
            if not purged:
                break
            anew = _stored(connection, [checked[place] for place in purged], catalogue)
            for place, new in zip(purged, anew, strict=True):
                stored[place] = new
        return [
            holders.repeat(each, place) if new is None else new
            for place, (each, new) in enumerate(zip(checked, stored, strict=True))
        ]


def _checked_at(place: int, new: NewMessage, catalogue: Catalogue) -> CheckedMessage:
    if not isinstance(new, NewMessage):
        raise InvalidMessage("", new, "give a NewMessage", place)
    try:
        return check(new, catalogue)
    except InvalidMessage as error:
        raise error.at(place) from None


def _stored(
    connection: Connection, messages: Sequence[CheckedMessage], catalogue: Catalogue
) -> list[Message | None]:
    """Store what is new; None stands for a message whose idempotency key is taken."""
    rows = store(connection, messages)
    new = [(checked, row.id) for checked, row in zip(messages, rows, strict=True) if row is not None]
    if new:
        mark_enqueued(connection)
    retired = retire_obsolete(connection, new, catalogue)
    return [
        None if row is None else _new_message(checked, row, row.id in retired)
        for checked, row in zip(messages, rows, strict=True)
    ]


def _new_message(checked: CheckedMessage, row: Stored, retired: bool) -> Message:
    """Return a message as it was stored, and `retired` as obsolete by the same call, if so."""
    return Message(
        id=row.id,
        destination=checked.destination,
        operation=checked.operation.name,
        channel=checked.channel,
        organisation=checked.organisation,
        key=checked.key,
        version=checked.version,
        idempotency_key=checked.idempotency_key,
        state=State.SUPERSEDED if retired else State.PENDING,
        due_at=None if retired else row.due_at,
        expires_at=checked.expires_at,
        created_at=row.created_at,
        created=True,
    )


class _Holders:
    """The messages stored before that hold the idempotency keys of repeated ones."""

    def __init__(self, connection: Connection, repeated: Sequence[CheckedMessage]) -> None:
        keys: dict[str, dict[str, None]] = {}
        for each in repeated:
            keys.setdefault(each.destination, {})[each.idempotency_key] = None
        self._rows = {
            (row.destination, row.idempotency_key): row
            for destination, of_it in keys.items()
            for start in range(0, len(of_it), KEYS_PER_STATEMENT)
            for row in connection.execute(
                _holders,
                {
                    "of_destination": destination,
                    "keys": list(of_it)[start : start + KEYS_PER_STATEMENT],
                },
            )
        }

    def __contains__(self, checked: CheckedMessage) -> bool:
        return (checked.destination, checked.idempotency_key) in self._rows

    def repeat(self, checked: CheckedMessage, place: int | None = None) -> Message:
        """Return the message that holds the key of `checked`, if it is the same.

        Raises:
            IdempotencyConflict: it is another.
        """
        row = self._rows[checked.destination, checked.idempotency_key]
        if row.fingerprint != checked.fingerprint:
            raise IdempotencyConflict(checked.idempotency_key, row.id, _differing(row, checked), place)
        fields = {column.name: getattr(row, column.name) for column in _RETURNED}
        return Message(**{**fields, "state": State(row.state)}, created=False)


def _differing(row: Any, checked: CheckedMessage) -> tuple[str, ...]:
    stored = {
        **{name: getattr(row, name) for name in checked.content() if name != "payload"},
        "payload": None if row.sha256 is None else row.sha256.hex(),
    }
    return tuple(name for name, value in checked.content().items() if stored[name] != value)
