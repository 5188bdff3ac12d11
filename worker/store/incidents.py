"""Incidents whose alert is due: leased to one sender at a time, and what became of it written down."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, null, or_, select, update

from orderflow_outbox.tables import incident

from .causes import DEAD_LETTERS, AlertTimes
from .evidence import NO_LETTERS, Letters, SampleReply, letters_of, sample_of
from .transactions import Transaction

RESOLUTION_TRIES = 12
"""So often a resolution is told to hooks that fail, which is about an hour: then they are left without it."""


@dataclass(frozen=True, slots=True)
class Told:
    """Hooks that took an alert which others did not, how many occurrences it counted, and when."""

    hooks: frozenset[str]
    occurrences: int
    at: datetime


@dataclass(frozen=True, slots=True)
class DueAlert:
    """An incident leased for sending, as it stood at that moment.

    Attributes:
        text: what may still repeat a payload, until there is evidence.
        sent: how many alerts of it were sent before.
        oldest_at: since when there is what it is about.
        was_told: whether anybody took an alert of it before.
        told: who took the alert that is under way; None at its first try.
    """

    incident_id: int
    token: int
    tries: int
    sent: int
    cause: str
    destination: str
    operation: str
    reason: str
    text: str
    opened_at: datetime
    oldest_at: datetime
    resolved_at: datetime | None
    occurrences: int
    new_occurrences: int
    sample_message_id: int | None
    was_told: bool
    told: Told | None
    leased_at: datetime
    letters: Letters = NO_LETTERS
    sample_key: str | None = None
    sample_reply: SampleReply | None = None

    @property
    def is_last_try(self) -> bool:
        """Whether it is given up when it fails; never where it is all that anybody hears of dead letters."""
        can_end = self.resolved_at is not None and (self.was_told or self.cause != DEAD_LETTERS)
        return can_end and self.tries + 1 >= RESOLUTION_TRIES


def lease_due_alert(transaction: Transaction, lease: timedelta) -> DueAlert | None:
    """Lease the incident whose alert has been due longest, one that is new before any that failed.

    Returns:
        None when none is due.
    """
    connection, now = transaction.connection, transaction.now
    row = connection.execute(
        select(incident)
        .where(
            incident.c.alert_due_at <= now,
            or_(incident.c.lease_until.is_(None), incident.c.lease_until < now),
        )
        .order_by(incident.c.alert_tries > 0, incident.c.alert_due_at)
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
    return _due_alert(row, now)


def with_evidence(transaction: Transaction, alert: DueAlert) -> DueAlert:
    """Return an alert with letters and sample, by a transaction of its own: a long payload takes its time."""
    letters = letters_of(transaction, alert.incident_id)
    sample = sample_of(transaction, alert.sample_message_id, alert.text)
    return replace(
        alert,
        letters=letters,
        oldest_at=letters.oldest_at or alert.oldest_at,
        text=sample.text,
        sample_key=sample.key,
        sample_reply=sample.reply,
    )


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
    again: datetime | None = alert_times.next_alert(now, alert.sent + 1)
    if alert.resolved_at is not None:
        again = None
    elif _locked(transaction, alert).resolved_at is not None:
        again = now
    elif _locked(transaction, alert).acknowledged_at is not None:
        again = None
    return _write(
        transaction,
        alert,
        {
            "alerted_occurrences": counted,
            "alert_told": null(),
            "alerts_sent": alert.sent + 1,
            "alert_tries": 0,
            "last_alert_at": now,
            "last_alert_error": None,
            "alert_due_at": again,
        },
    )


def record_alert_failed(
    transaction: Transaction, alert: DueAlert, error: str, again: timedelta, told: Told
) -> bool:
    """Write that hooks failed and are tried again after `again`; those `told` are left in peace.

    What was resolved or acknowledged meanwhile is told to nobody else: a resolution to all that may have
    heard of the incident, and one that nobody heard of only where it is about dead letters.
    """
    now, after = transaction.now, _locked(transaction, alert)
    is_told = bool(told.hooks) or after.last_alert_at is not None
    values: dict[str, Any] = {
        "alerts_sent": alert.sent,
        "alert_tries": alert.tries + 1,
        "last_alert_error": error,
        "last_alert_at": told.at if told.hooks else after.last_alert_at,
        "alert_due_at": None if alert.is_last_try else now + again,
        "alert_told": {
            "hooks": sorted(told.hooks),
            "occurrences": told.occurrences,
            "at": told.at.isoformat(),
        },
    }
    if alert.resolved_at is None and after.resolved_at is not None:
        untold_is_due = now + again if alert.cause == DEAD_LETTERS else None
        values |= {"alert_due_at": now if is_told else untold_is_due, "alert_tries": 0, "alert_told": null()}
    elif alert.resolved_at is None and after.acknowledged_at and (is_told or after.alert_due_at is None):
        values |= {"alert_due_at": None, "alert_told": null()}
    return _write(transaction, alert, values)


def acknowledge(transaction: Transaction, incident_id: int, by: str) -> Any:
    """Have an open incident remind nobody any more, and return its row; None where there is no such one.

    An alert that has been tried by no hook yet goes out all the same. One that failed may have arrived in
    part, and would again at each try.
    """
    is_tried = or_(incident.c.last_alert_at.is_not(None), incident.c.alert_tries > 0)
    return transaction.connection.execute(
        update(incident)
        .where(incident.c.id == incident_id, incident.c.resolved_at.is_(None))
        .values(
            acknowledged_at=transaction.now,
            acknowledged_by=by,
            acknowledged_occurrences=incident.c.occurrences,
            alert_due_at=case((is_tried, null()), else_=incident.c.alert_due_at),
        )
        .returning(incident)
    ).one_or_none()


def _locked(transaction: Transaction, alert: DueAlert) -> Any:
    return transaction.connection.execute(
        select(
            incident.c.resolved_at,
            incident.c.acknowledged_at,
            incident.c.last_alert_at,
            incident.c.alert_due_at,
        )
        .where(incident.c.id == alert.incident_id)
        .with_for_update()
    ).one()


def _write(transaction: Transaction, alert: DueAlert, values: dict[str, Any]) -> bool:
    changed = transaction.connection.execute(
        update(incident)
        .where(incident.c.id == alert.incident_id, incident.c.lease_token == alert.token)
        .values(lease_until=None, **values)
    )
    return changed.rowcount == 1


def _due_alert(row: Any, now: datetime) -> DueAlert:
    told = row.alert_told
    return DueAlert(
        leased_at=now,
        incident_id=row.id,
        token=row.lease_token + 1,
        tries=row.alert_tries,
        sent=row.alerts_sent,
        cause=row.cause,
        destination=row.destination,
        operation=row.operation,
        reason=row.reason,
        text=row.text,
        opened_at=row.opened_at,
        oldest_at=row.oldest_at,
        resolved_at=row.resolved_at,
        occurrences=row.occurrences,
        new_occurrences=row.occurrences - row.alerted_occurrences,
        sample_message_id=row.sample_message_id,
        was_told=row.last_alert_at is not None,
        told=told and Told(frozenset(told["hooks"]), told["occurrences"], datetime.fromisoformat(told["at"])),
    )
