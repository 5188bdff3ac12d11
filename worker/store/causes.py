"""Causes: what incidents are about. One opens, counts what happens since, is resolved once that is over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select, update

from orderflow_outbox.dialects import insert_on
from orderflow_outbox.tables import incident

from .transactions import Transaction

DEAD_LETTERS = "dead-letters"
DESTINATION_HELD = "destination-held"
BREAKER_OPEN = "breaker-open"

NO_OPERATION = ""
"""The operation of an incident that is about a whole destination."""


@dataclass(frozen=True, slots=True)
class AlertTimes:
    """When alerts are due: the first after `grouping`, later ones not within `reminder`."""

    grouping: timedelta
    reminder: timedelta

    def next_alert(self, now: datetime, last_alert_at: datetime | None) -> datetime:
        """Return when an alert that tells of something that happened `now` is due."""
        soon = now + self.grouping
        return soon if last_alert_at is None else max(soon, last_alert_at + self.reminder)


def note_incident(
    transaction: Transaction,
    *,
    cause: str,
    destination: str,
    operation: str,
    reason: str,
    text: str,
    message_id: int | None,
    alert_times: AlertTimes,
    occurrences: int = 1,
) -> int:
    """Count more occurrences of a cause, opening its incident where none is; return its id."""
    connection, now = transaction.connection, transaction.now
    opening = {
        "cause": cause,
        "destination": destination,
        "operation": operation,
        "reason": reason,
        "text": text,
        "sample_message_id": message_id,
        "opened_at": now,
        "updated_at": now,
        "occurrences": occurrences,
        "alerted_occurrences": 0,
        "alert_due_at": alert_times.next_alert(now, None),
        "alert_tries": 0,
        "alerts_sent": 0,
        "lease_token": 0,
    }
    opened = None
    while opened is None:
        known = _unresolved(transaction, cause, destination, operation, reason)
        if known is not None:
            connection.execute(
                update(incident)
                .where(incident.c.id == known.id)
                .values(
                    occurrences=incident.c.occurrences + occurrences,
                    updated_at=now,
                    text=text,
                    sample_message_id=message_id,
                    alert_due_at=known.alert_due_at or alert_times.next_alert(now, known.last_alert_at),
                )
            )
            return int(known.id)
        # Nothing comes back when another transaction has just opened it: then it is known by now.
        opened = connection.execute(_open_incident(connection), opening).scalar_one_or_none()
    return int(opened)


def _unresolved(transaction: Transaction, cause: str, destination: str, operation: str, reason: str) -> Any:
    return transaction.connection.execute(
        select(incident.c.id, incident.c.alert_due_at, incident.c.last_alert_at)
        .where(
            incident.c.cause == cause,
            incident.c.destination == destination,
            incident.c.operation == operation,
            incident.c.reason == reason,
            incident.c.resolved_at.is_(None),
        )
        .with_for_update()
    ).one_or_none()


def _open_incident(connection: Connection) -> Any:
    return (
        insert_on(connection, incident)
        .on_conflict_do_nothing(
            index_elements=[
                incident.c.cause,
                incident.c.destination,
                incident.c.operation,
                incident.c.reason,
            ],
            index_where=incident.c.resolved_at.is_(None),
        )
        .returning(incident.c.id)
    )


def resolve_incidents(transaction: Transaction, cause: str, destination: str) -> None:
    """Resolve what is open of a cause at a destination, since it is gone."""
    transaction.connection.execute(
        update(incident)
        .where(
            incident.c.cause == cause,
            incident.c.destination == destination,
            incident.c.resolved_at.is_(None),
        )
        .values(resolved_at=transaction.now)
    )
