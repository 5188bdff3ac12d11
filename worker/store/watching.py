"""What is watched: signs of life, the oldest due message of each destination, and incidents of that kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Row, and_, delete, exists, func, or_, select, update

from orderflow_outbox.dialects import insert_on
from orderflow_outbox.states import HELD, RELEASED
from orderflow_outbox.tables import attempt, engine_seen, gate, incident, last_delivery, message

from .causes import (
    BREAKER_OPEN,
    DESTINATION_HELD,
    DISK_NEARLY_FULL,
    ENGINES_SILENT,
    NOTHING_DELIVERED,
    OLDEST_DUE,
    SWEEPS_SILENT,
    AlertTimes,
    is_unresolved,
    open_incident,
    resolve_where,
)
from .claiming import is_due, is_parked, is_sending
from .transactions import Transaction

WATCHED = (OLDEST_DUE, NOTHING_DELIVERED, ENGINES_SILENT, SWEEPS_SILENT, DISK_NEARLY_FULL)
TELLING_OF_A_STOP = (DESTINATION_HELD, BREAKER_OPEN)
TRIED_LOOKED_AT = 50
"""So many messages of a destination are looked at for failed attempts: those that wait longest for a try."""
FORGOTTEN_AFTER = timedelta(days=1)
"""How long an engine is remembered that gives no sign of life."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What an incident is found by."""

    code: str
    destination: str
    operation: str
    reason: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that an incident is to tell of.

    Attributes:
        oldest_at: since when there is it.
    """

    cause: Cause
    text: str
    oldest_at: datetime
    message_id: int | None = None


@dataclass(frozen=True, slots=True)
class OldestDue:
    """The message of a destination that has been due for longest."""

    destination: str
    message_id: int
    operation: str
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Failing:
    """The message of a destination that fails for longest, of those looked at.

    Attributes:
        since: when its first attempt ended.
        last_at: when the latest attempt of any of those ended.
    """

    destination: str
    message_id: int
    operation: str
    since: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class EngineSeen:
    """An engine's last sign of life, and its last sweep."""

    machine: str
    seen_at: datetime
    swept_at: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """How things stand at a moment.

    Attributes:
        stopped: destinations that are held, or of which another incident tells why nothing is sent to them.
        open: the incidents of what is watched, with the moment each was last written.
        stops_told: destinations with an open incident that tells why nothing is sent to them.
    """

    now: datetime
    engines: Sequence[EngineSeen]
    oldest_due: Sequence[OldestDue]
    last_deliveries: Mapping[str, datetime]
    stopped: frozenset[str]
    open: Mapping[Cause, datetime]
    failing: Sequence[Failing] = ()
    stops_told: frozenset[str] = frozenset()


def look(transaction: Transaction) -> Facts:
    """Return how things stand, from indexes and small tables alone."""
    connection, now = transaction.connection, transaction.now
    seen = connection.execute(select(engine_seen.c.machine, engine_seen.c.seen_at, engine_seen.c.swept_at))
    deliveries = connection.execute(select(last_delivery.c.destination, last_delivery.c.at))
    held = connection.execute(select(gate.c.destination).where(gate.c.state == HELD)).scalars()
    causes = {
        Cause(*row[:4]): row.updated_at
        for row in connection.execute(
            select(
                incident.c.cause,
                incident.c.destination,
                incident.c.operation,
                incident.c.reason,
                incident.c.updated_at,
            ).where(is_unresolved, incident.c.cause.in_([*WATCHED, *TELLING_OF_A_STOP]))
        )
    }
    told = {cause.destination for cause in causes if cause.code in TELLING_OF_A_STOP}
    first_due = _first_due(transaction)
    return Facts(
        now,
        [EngineSeen(*row) for row in seen],
        [OldestDue(*row) for row in first_due if row.due_at <= now],
        {row.destination: row.at for row in deliveries},
        frozenset(held) | told,
        {cause: at for cause, at in causes.items() if cause.code in WATCHED},
        _failing(transaction, [row.destination for row in first_due]),
        frozenset(told),
    )


def _failing(transaction: Transaction, waited_for: Sequence[str]) -> list[Failing]:
    """Return what fails of each destination, by a bounded look at what was tried and has not ended.

    Args:
        waited_for: the destinations that messages wait for; what is just being sent is looked at too.
    """
    columns = message.c.id, message.c.destination, message.c.operation, message.c.tries
    seen = (
        select(*columns).where(is_sending, message.c.tries > 0).order_by(message.c.id).limit(TRIED_LOOKED_AT)
    )
    rows = list(transaction.connection.execute(seen))
    for destination in waited_for:
        last_due = (
            select(*columns)
            .where(is_due, message.c.destination == destination)
            .order_by(message.c.due_at.desc(), message.c.id.desc())
            .limit(TRIED_LOOKED_AT)
        )
        rows += transaction.connection.execute(last_due)
    tried = {row.id: row for row in rows if row.tries}
    failed = (
        select(
            attempt.c.message_id,
            func.min(attempt.c.finished_at).label("since"),
            func.max(attempt.c.finished_at).label("last_at"),
        )
        .where(attempt.c.message_id.in_(tried), attempt.c.verdict != RELEASED)
        .group_by(attempt.c.message_id)
    )
    found: dict[str, Failing] = {}
    for row in transaction.connection.execute(failed.order_by("since")) if tried else ():
        _, destination, operation, _ = tried[row.message_id]
        first = found.setdefault(
            destination, Failing(destination, row.message_id, operation, row.since, row.last_at)
        )
        found[destination] = replace(first, last_at=max(first.last_at, row.last_at))
    return list(found.values())


def _first_due(transaction: Transaction) -> list[Row[str, int, str, datetime]]:
    """Return of each destination what is due first, by one look into the index of what is due for each."""
    found: list[Row[str, int, str, datetime]] = []
    after = ""
    while True:
        row = transaction.connection.execute(
            select(message.c.destination, message.c.id, message.c.operation, message.c.due_at)
            .where(is_due, message.c.destination > after)
            .order_by(message.c.destination, message.c.due_at, message.c.id)
            .limit(1)
        ).one_or_none()
        if row is None:
            return found
        after = row.destination
        found.append(row)


def note_life(
    transaction: Transaction,
    engine: str,
    machine: str,
    swept_at: datetime,
    deliveries: Mapping[str, datetime],
) -> None:
    """Write an engine's sign of life, and when it last delivered to which destinations."""
    connection, now = transaction.connection, transaction.now
    # In one order, whoever writes: two that lock the same rows the other way round would deadlock.
    for destination, at in sorted(deliveries.items()):
        told = insert_on(connection, last_delivery).values(destination=destination, at=at)
        connection.execute(
            told.on_conflict_do_update(
                index_elements=[last_delivery.c.destination],
                set_={"at": told.excluded.at},
                where=last_delivery.c.at < told.excluded.at,
            )
        )
    values = {"machine": machine, "seen_at": now, "swept_at": swept_at}
    connection.execute(
        insert_on(connection, engine_seen)
        .values(engine=engine, **values)
        .on_conflict_do_update(index_elements=[engine_seen.c.engine], set_=values)
    )
    connection.execute(delete(engine_seen).where(engine_seen.c.seen_at < now - FORGOTTEN_AFTER))


def open_trouble(transaction: Transaction, trouble: Trouble, alert_times: AlertTimes) -> None:
    """Open the incident of a trouble; where another has just done so, it is left at that."""
    open_incident(
        transaction,
        cause=trouble.cause.code,
        destination=trouble.cause.destination,
        operation=trouble.cause.operation,
        reason=trouble.cause.reason,
        text=trouble.text,
        message_id=trouble.message_id,
        oldest_at=trouble.oldest_at,
        alert_times=alert_times,
    )


def refresh_trouble(transaction: Transaction, trouble: Trouble) -> None:
    """Have an open incident tell how things stand now."""
    transaction.connection.execute(
        update(incident)
        .where(is_unresolved, _is_of(trouble.cause))
        .values(
            text=trouble.text,
            sample_message_id=trouble.message_id,
            oldest_at=trouble.oldest_at,
            updated_at=transaction.now,
        )
    )


def close_trouble(transaction: Transaction, cause: Cause) -> None:
    """Resolve the incident of what is over."""
    resolve_where(transaction, _is_of(cause))


def close_stops(transaction: Transaction, destination: str) -> None:
    """Resolve what tells that nothing is sent to a destination, unless something still waits for it."""
    of = message.c.destination == destination
    waits = or_(*(exists().where(of, which) for which in (is_due, is_parked, is_sending)))
    told = incident.c.cause.in_(TELLING_OF_A_STOP), incident.c.destination == destination
    resolve_where(transaction, and_(*told, ~waits))


def _is_of(cause: Cause) -> ColumnElement[bool]:
    return and_(
        incident.c.cause == cause.code,
        incident.c.destination == cause.destination,
        incident.c.operation == cause.operation,
        incident.c.reason == cause.reason,
    )
