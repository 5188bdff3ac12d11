"""Incidents whose alert is due: leased to one sender at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, func, or_, select, update

from orderflow_outbox.tables import dead_letter, incident, message

from .burying import is_open
from .causes import AlertTimes
from .transactions import Transaction


@dataclass(frozen=True, slots=True)
class Told:
    """Hooks that took an alert which others did not, how many occurrences it counted, and when."""

    hooks: frozenset[str]
    occurrences: int
    at: datetime


@dataclass(frozen=True, slots=True)
class DueAlert:
    """An incident leased for sending, as it stood at that moment."""

    incident_id: int
    token: int
    tries: int
    cause: str
    destination: str
    operation: str
    reason: str
    text: str
    opened_at: datetime
    occurrences: int
    new_occurrences: int
    open_letters: int
    in_doubt: int
    sample_message_id: int | None
    sample_key: str | None
    told: Told | None
    leased_at: datetime


def lease_due_alert(transaction: Transaction, lease: timedelta) -> DueAlert | None:
    """Lease the incident whose alert has been due longest; None when none is."""
    connection, now = transaction.connection, transaction.now
    row = connection.execute(
        select(incident)
        .where(
            incident.c.alert_due_at <= now,
            or_(incident.c.lease_until.is_(None), incident.c.lease_until < now),
        )
        .order_by(incident.c.alert_due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    connection.execute(
        update(incident)
        .where(incident.c.id == row.id)
        .values(lease_token=incident.c.lease_token + 1, lease_until=now + lease)
    )
    letters = connection.execute(
        select(func.count(), func.sum(case((dead_letter.c.in_doubt, 1), else_=0)))
        .select_from(dead_letter)
        .where(dead_letter.c.incident_id == row.id, is_open)
    ).one()
    key = connection.execute(
        select(message.c.key).where(message.c.id == row.sample_message_id)
    ).scalar_one_or_none()
    return _due_alert(row, letters, key, now)


def has_due_alert(transaction: Transaction) -> bool:
    """Tell whether any alert is due, leased or not."""
    found = transaction.connection.execute(
        select(incident.c.id)
        .where(incident.c.alert_due_at <= transaction.now)
        .order_by(incident.c.alert_due_at)
        .limit(1)
    )
    return found.first() is not None


def record_alert_sent(
    transaction: Transaction, alert: DueAlert, counted: int, alert_times: AlertTimes
) -> bool:
    """Write that every hook took the alert; False when its lease was taken over meanwhile.

    Args:
        counted: the occurrences every hook was told of; what happened since is told by the next one.
    """
    now = transaction.now
    occurrences = transaction.connection.execute(
        select(incident.c.occurrences).where(incident.c.id == alert.incident_id).with_for_update()
    ).scalar_one()
    more = occurrences > counted
    return _write(
        transaction,
        alert,
        {
            "alerted_occurrences": counted,
            "alert_told": None,
            "alerts_sent": incident.c.alerts_sent + 1,
            "alert_tries": 0,
            "last_alert_at": now,
            "last_alert_error": None,
            "alert_due_at": alert_times.next_alert(now, now) if more else None,
        },
    )


def record_alert_failed(
    transaction: Transaction, alert: DueAlert, error: str, again: timedelta, told: Told
) -> bool:
    """Write that hooks failed and are tried again after `again`; those `told` are left in peace."""
    return _write(
        transaction,
        alert,
        {
            "alert_tries": alert.tries + 1,
            "last_alert_error": error,
            "alert_due_at": transaction.now + again,
            "alert_told": {
                "hooks": sorted(told.hooks),
                "occurrences": told.occurrences,
                "at": told.at.isoformat(),
            },
        },
    )


def _write(transaction: Transaction, alert: DueAlert, values: dict[str, Any]) -> bool:
    changed = transaction.connection.execute(
        update(incident)
        .where(incident.c.id == alert.incident_id, incident.c.lease_token == alert.token)
        .values(lease_until=None, **values)
    )
    return changed.rowcount == 1


def _due_alert(row: Any, letters: Any, key: str | None, now: datetime) -> DueAlert:
    told = row.alert_told
    return DueAlert(
        leased_at=now,
        incident_id=row.id,
        token=row.lease_token + 1,
        tries=row.alert_tries,
        cause=row.cause,
        destination=row.destination,
        operation=row.operation,
        reason=row.reason,
        text=row.text,
        opened_at=row.opened_at,
        occurrences=row.occurrences,
        new_occurrences=row.occurrences - row.alerted_occurrences,
        open_letters=letters[0],
        in_doubt=letters[1] or 0,
        sample_message_id=row.sample_message_id,
        sample_key=key,
        told=told and Told(frozenset(told["hooks"]), told["occurrences"], datetime.fromisoformat(told["at"])),
    )
