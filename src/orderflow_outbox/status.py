"""How a message stands, for the shop's own pages: in words, and when it is tried next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Executable, func, select

from .clock import database_now
from .connections import AnySession, connection_of
from .errors import InvalidQuestion, shown
from .lookup import numbers_of_key
from .messages import MAX_VERSION
from .operations import CONTROL_CHARACTER
from .states import CLOSED, HELD, RELEASED, Resolution, State
from .tables import attempt, audit, dead_letter, gate, item, message

_elder = message.alias("elder")


@dataclass(frozen=True, slots=True)
class Status:
    """How a message stands.

    Attributes:
        message_id: its number in the outbox; of a replay, the replay's.
        state: where it stands.
        reason: why it stands there, one sentence for a person.
        next_try_at: when it is tried next (UTC); None while it waits for something else, or is done.
        attempts: requests made so far, as far as is known.
        in_doubt: whether a request may have been carried out without an answer.
        created_at: when it was enqueued (UTC).
        finished_at: when it came to its end (UTC), else None.
    """

    message_id: int
    destination: str
    operation: str
    key: str | None
    state: State
    reason: str
    next_try_at: datetime | None
    attempts: int
    in_doubt: bool
    created_at: datetime
    finished_at: datetime | None


def status_of(
    session: AnySession,
    message_id: int | None = None,
    *,
    idempotency_key: str | None = None,
    key: str | None = None,
    destination: str = "main",
) -> Status | None:
    """Return how a message stands, None where there is none. Nothing is written.

    A message that was replayed stands as its replay does. Of a key the message in front counts: the
    first that is not done yet, or is dead and holds the others up; when all are done, the last.

    Args:
        session: a SQLAlchemy Session or Connection on the database that holds the outbox tables.
        message_id: the number that `enqueue` returned.
        idempotency_key: the key the message was enqueued with.
        key: the business entity, such as `order:SO-1001`.
        destination: which OrderFlow the two keys belong to.

    Raises:
        InvalidQuestion: not exactly one of the three was given, or one of another type.
        NotASession: `session` is neither.
        UnsupportedDatabase: it leads to neither SQLite nor PostgreSQL.
    """
    asked = {"message_id": message_id, "idempotency_key": idempotency_key, "key": key}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1:
        raise InvalidQuestion(f"{' and '.join(given) or 'nothing'} given", f"give one of {', '.join(asked)}")
    _check(given[0], asked[given[0]], int if given[0] == "message_id" else str)
    connection = connection_of(session)
    if not _can_be_stored(message_id, idempotency_key, key, destination):
        return None
    if key is not None:
        found = _in_front(connection, destination, key)
    elif idempotency_key is not None:
        found = _of_identity(connection, destination, idempotency_key)
    else:
        found = message_id
    return None if found is None else _status(connection, _last_replay(connection, found))


def _can_be_stored(number: int | None, *texts: str | None) -> bool:
    """Tell whether a database takes these at all: PostgreSQL ends the transaction over one it does not."""
    in_range = number is None or -MAX_VERSION <= number <= MAX_VERSION
    return in_range and not any(CONTROL_CHARACTER.search(text) for text in texts if text is not None)


def _check(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InvalidQuestion(f"{name} is {shown(value)}", f"give a value of type {kind.__name__}")


def _of_identity(connection: Connection, destination: str, idempotency_key: str) -> int | None:
    return _number(
        connection,
        select(message.c.id).where(
            message.c.destination == destination,
            message.c.idempotency_key == idempotency_key,
            message.c.replay_of.is_(None),
        ),
    )


def _in_front(connection: Connection, destination: str, key: str) -> int | None:
    first = (
        select(message.c.id)
        .where(message.c.destination == destination, message.c.key == key, message.c.blocks)
        .order_by(message.c.position)
        .limit(1)
    )
    found = _number(connection, first)
    return _last_of_key(connection, destination, key) if found is None else found


def _last_of_key(connection: Connection, destination: str, key: str) -> int | None:
    of_key = numbers_of_key(key)
    return _number(
        connection,
        select(func.max(message.c.id))
        .join_from(of_key, message, message.c.id == of_key.c.message_id)
        .where(message.c.destination == destination),
    )


def _last_replay(connection: Connection, message_id: int) -> int:
    replay = _number(connection, select(message.c.id).where(message.c.replay_of == message_id))
    return message_id if replay is None else _last_replay(connection, replay)


def _number(connection: Connection, statement: Executable) -> int | None:
    found: int | None = connection.execute(statement).scalar_one_or_none()
    return found


def _status(connection: Connection, message_id: int) -> Status | None:
    statement = select(message, database_now().label("now")).where(message.c.id == message_id)
    row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    shut = _shut(connection, row) if row.state == State.PENDING else None
    next_try_at = row.due_at if row.state == State.PENDING else None
    if shut is not None and next_try_at is not None:
        next_try_at = None if shut.until is None else max(next_try_at, shut.until)
    return Status(
        message_id=row.id,
        destination=row.destination,
        operation=row.operation,
        key=row.key,
        state=State(row.state),
        reason=_reason(connection, row, None if shut is None else shut.why),
        next_try_at=next_try_at,
        attempts=row.attempts,
        in_doubt=row.in_doubt,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


class _Shut(NamedTuple):
    """Why nothing is sent to a destination, and until when; None while only a person can tell."""

    why: str
    until: datetime | None


def _shut(connection: Connection, row: Any) -> _Shut | None:
    """Return why nothing is sent where a message goes, None where it is."""
    found = connection.execute(select(gate).where(gate.c.destination == row.destination)).one_or_none()
    if found is None:
        return None
    if found.state == HELD:
        return _Shut(f"nothing is sent to {row.destination} at present: {found.text}", None)
    if found.breaker != CLOSED:
        why = "fails at present, and is only tried from time to time"
        return _Shut(f"{row.destination} {why}: {found.text}", found.probe_at)
    if found.paused_until is not None and found.paused_until > row.now:
        return _Shut(f"{row.destination} has asked for a pause", found.paused_until)
    return None


def _reason(connection: Connection, row: Any, shut: str | None) -> str:
    match State(row.state):
        case State.PENDING:
            return _why_it_waits(connection, row, shut)
        case State.SENDING:
            return "it is being sent"
        case State.DELIVERED:
            return f"it was delivered{_but_for_items(connection, row.id)}"
        case State.DEAD:
            return _why_it_is_dead(connection, row.id)
        case State.SUPERSEDED:
            return "a later message made it obsolete"
        case State.CANCELLED:
            why = _text(connection, audit.c.why, audit.c.message_id == row.id, audit.c.verb == "cancel")
            return "it was cancelled" if why is None else f"it was cancelled: {why}"


def _but_for_items(connection: Connection, message_id: int) -> str:
    """Return in words how many of its items went another way, at the attempt that delivered the others."""
    last = select(func.max(item.c.n)).where(item.c.message_id == message_id).scalar_subquery()
    others = connection.scalar(
        select(func.count()).where(
            item.c.message_id == message_id, item.c.n == last, item.c.verdict != State.DELIVERED.value
        )
    )
    return f", but for items that are messages of their own: {others}" if others else ""


def _why_it_waits(connection: Connection, row: Any, shut: str | None) -> str:
    if shut is not None:
        return shut
    if row.due_at is None:
        return f"it waits for message {_elder_of(connection, row)}, an earlier one of its key"
    failed = (attempt.c.message_id == row.id, attempt.c.n == row.attempts, attempt.c.verdict != RELEASED)
    checked_by = _text(connection, attempt.c.checked_by, *failed)
    if checked_by and row.in_doubt:
        return f"whether OrderFlow carried it out is not known, and was asked by {checked_by}"
    if checked_by:
        return f"OrderFlow did not carry it out, as it answered to {checked_by}: it is sent again"
    last = _text(connection, attempt.c.error, *failed)
    if last is not None:
        return f"attempt {row.attempts} failed and it is tried again: {last}"
    return "it is not to be sent yet" if row.due_at > row.now else "it is about to be sent"


def _elder_of(connection: Connection, row: Any) -> int | None:
    return _number(
        connection,
        select(_elder.c.id)
        .where(
            _elder.c.destination == row.destination,
            _elder.c.key == row.key,
            _elder.c.blocks,
            _elder.c.position < row.position,
        )
        .order_by(_elder.c.position)
        .limit(1),
    )


def _why_it_is_dead(connection: Connection, message_id: int) -> str:
    letter = connection.execute(select(dead_letter).where(dead_letter.c.message_id == message_id)).one()
    if letter.resolution == Resolution.DISCARDED:
        return f"it was given up: {letter.note}"
    doubt = "; whether OrderFlow carried it out is not known" if letter.in_doubt else ""
    return f"it could not be delivered, a person is told: {letter.text}{doubt}"


def _text(connection: Connection, column: ColumnElement[Any], *conditions: ColumnElement[bool]) -> str | None:
    """Return the text of a row that meets the conditions, None where there is none."""
    found = connection.execute(select(func.coalesce(column, "")).where(*conditions).limit(1))
    value = found.scalar_one_or_none()
    return None if value is None else str(value)
