"""Burying: a dead message's letter and its incident, in the transaction of its death."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select, update

from orderflow_outbox import Resolution
from orderflow_outbox.tables import dead_letter, incident
from worker.deliveries import Settlement

from .transactions import Transaction

DEAD_LETTERS = "dead-letters"
DESTINATION_HELD = "destination-held"


@dataclass(frozen=True, slots=True)
class AlertTimes:
    """When alerts are due: the first after `grouping`, later ones not within `reminder`."""

    grouping: timedelta
    reminder: timedelta

    def next_alert(self, now: datetime, last_alert_at: datetime | None) -> datetime:
        """Return when an alert that tells of something that happened `now` is due."""
        soon = now + self.grouping
        return soon if last_alert_at is None else max(soon, last_alert_at + self.reminder)


def bury(transaction: Transaction, settlements: Sequence[Settlement], alert_times: AlertTimes) -> None:
    """Write the dead letter and the incident of each settlement that is a death."""
    deaths = [each for each in settlements if each.death is not None]
    letters = []
    for each in deaths:
        assert each.death is not None  # noqa: S101 (filtered above)
        incident_id = note_incident(
            transaction,
            cause=DEAD_LETTERS,
            destination=each.claim.destination,
            operation=each.claim.operation,
            reason=each.death.reason,
            text=each.death.text,
            message_id=each.claim.id,
            alert_times=alert_times,
        )
        letters.append(
            {
                "message_id": each.claim.id,
                "incident_id": incident_id,
                "reason": each.death.reason,
                "text": each.death.text,
                "in_doubt": each.in_doubt,
                "died_at": transaction.now,
                "resolution": Resolution.OPEN.value,
            }
        )
    if letters:
        transaction.connection.execute(dead_letter.insert(), letters)


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
) -> int:
    """Count one more occurrence of a cause, opening its incident where none is; return its id."""
    connection, now = transaction.connection, transaction.now
    known = connection.execute(
        select(incident.c.id, incident.c.alert_due_at, incident.c.last_alert_at)
        .where(
            incident.c.destination == destination,
            incident.c.operation == operation,
            incident.c.reason == reason,
            incident.c.resolved_at.is_(None),
        )
        .with_for_update()
    ).one_or_none()
    if known is not None:
        connection.execute(
            update(incident)
            .where(incident.c.id == known.id)
            .values(
                occurrences=incident.c.occurrences + 1,
                updated_at=now,
                text=text,
                sample_message_id=message_id,
                alert_due_at=known.alert_due_at or alert_times.next_alert(now, known.last_alert_at),
            )
        )
        return int(known.id)
    opened = connection.execute(
        incident.insert().returning(incident.c.id),
        {
            "cause": cause,
            "destination": destination,
            "operation": operation,
            "reason": reason,
            "text": text,
            "sample_message_id": message_id,
            "opened_at": now,
            "updated_at": now,
            "occurrences": 1,
            "alerted_occurrences": 0,
            "alert_due_at": alert_times.next_alert(now, None),
            "alert_tries": 0,
            "alerts_sent": 0,
            "lease_token": 0,
        },
    )
    return int(opened.scalar_one())


def close_settled_incidents(transaction: Transaction) -> None:
    """Resolve every incident of dead letters of which none is open any more."""
    still_open = (
        select(func.count())
        .select_from(dead_letter)
        .where(
            dead_letter.c.incident_id == incident.c.id,
            dead_letter.c.resolution == Resolution.OPEN.value,
        )
        .scalar_subquery()
    )
    transaction.connection.execute(
        update(incident)
        .where(incident.c.cause == DEAD_LETTERS, incident.c.resolved_at.is_(None), still_open == 0)
        .values(resolved_at=transaction.now)
    )
