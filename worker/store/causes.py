"""Causes: what incidents are about. One opens, counts what happens since, is resolved once that is over.

A cause is a code, a destination, an operation and a reason code, never free text: what happens again is
counted in the incident that is open.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, literal, null, or_, select, update

from orderflow_outbox.dialects import insert_on
from orderflow_outbox.tables import incident

from .transactions import Transaction

DEAD_LETTERS = "dead-letters"
DESTINATION_HELD = "destination-held"
BREAKER_OPEN = "breaker-open"
EXPIRING = "expiring"
"""The cause of an incident about messages that will end soon, and its reason."""
OLDEST_DUE = "oldest-due"
NOTHING_DELIVERED = "nothing-delivered"
ENGINES_SILENT = "engines-silent"
SWEEPS_SILENT = "sweeps-silent"
DISK_NEARLY_FULL = "disk-nearly-full"
"""Its operation is the name of the machine."""

COUNTING_MESSAGES = (DEAD_LETTERS, EXPIRING)
"""Of these each incident is new; one of the others that comes back soon is the one that there was."""

NO_OPERATION = ""
"""The operation of an incident that is about a whole destination."""
NO_DESTINATION = ""
"""The destination of an incident that is about the service itself."""

LONGEST_REMINDER = timedelta(days=1)
MAX_DOUBLINGS = 20


@dataclass(frozen=True, slots=True)
class AlertTimes:
    """When alerts are due: the first after `grouping`, reminders at intervals that double from `reminder`."""

    grouping: timedelta
    reminder: timedelta

    def first_alert(self, now: datetime) -> datetime:
        """Return when the first alert of something that happens `now` is due."""
        return now + self.grouping

    def alert_again(self, now: datetime, last_alert: datetime | None, sent: int) -> datetime:
        """Return when the next alert is due of what comes back `now`: the later, the more were sent."""
        if last_alert is None:
            return self.first_alert(now)
        doubled: timedelta = self.grouping * 2 ** min(sent, MAX_DOUBLINGS)
        return max(self.first_alert(now), last_alert + min(doubled, self.reminder))

    def next_alert(self, last_alert: datetime, sent: int) -> datetime:
        """Return when the next alert is due.

        Args:
            last_alert: when the last one was sent.
            sent: how many there were, that one included.
        """
        if self.reminder >= LONGEST_REMINDER:
            return last_alert + self.reminder
        doubled: timedelta = self.reminder * 2 ** min(sent - 1, MAX_DOUBLINGS)
        return last_alert + min(doubled, LONGEST_REMINDER)


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
    """Count more occurrences of a cause, opening its incident where none is; return its id.

    Of dead letters twice as many as a person has acknowledged are news: the acknowledgement is over.
    """
    connection, now = transaction.connection, transaction.now
    of = {"cause": cause, "destination": destination, "operation": operation, "reason": reason}
    opened = None
    while opened is None:
        known = _unresolved(transaction, of)
        if known is not None:
            counted = known.occurrences + occurrences
            values: dict[str, Any] = {
                "occurrences": counted,
                "updated_at": now,
                "text": text,
                "sample_message_id": message_id,
            }
            acknowledged = known.acknowledged_occurrences
            if cause == DEAD_LETTERS and acknowledged is not None and counted >= 2 * acknowledged:
                values |= {
                    "acknowledged_at": None,
                    "acknowledged_by": None,
                    "acknowledged_occurrences": None,
                    "alert_due_at": known.alert_due_at or alert_times.first_alert(now),
                    # It is news to everyone, whoever took the alert before.
                    "alert_told": null(),
                    "alerts_sent": max(known.alerts_sent, 0 if known.last_alert_at is None else 1),
                }
            connection.execute(update(incident).where(incident.c.id == known.id).values(values))
            return int(known.id)
        # Nothing comes back when another transaction has just opened it: then it is known by now.
        opened = open_incident(
            transaction,
            **of,
            text=text,
            message_id=message_id,
            oldest_at=now,
            alert_times=alert_times,
            occurrences=occurrences,
        )
    return opened


def _unresolved(transaction: Transaction, of: dict[str, str]) -> Any:
    return transaction.connection.execute(
        select(
            incident.c.id,
            incident.c.occurrences,
            incident.c.alert_due_at,
            incident.c.alerts_sent,
            incident.c.last_alert_at,
            incident.c.acknowledged_occurrences,
        )
        .where(is_unresolved, *(incident.c[name] == value for name, value in of.items()))
        .with_for_update()
    ).one_or_none()


def open_incident(
    transaction: Transaction,
    *,
    cause: str,
    destination: str,
    operation: str,
    reason: str,
    text: str,
    message_id: int | None,
    oldest_at: datetime,
    alert_times: AlertTimes,
    occurrences: int = 1,
) -> int | None:
    """Open the incident of a cause and return its id; None where one is open, which is left as it is.

    What comes back within the time of a reminder is the same incident, opened again.

    Args:
        oldest_at: since when there is what it is about.
    """
    now = transaction.now
    of = {"cause": cause, "destination": destination, "operation": operation, "reason": reason}
    told = {"text": text, "sample_message_id": message_id, "oldest_at": oldest_at}
    if cause not in COUNTING_MESSAGES:
        known = _open_again(transaction, of, told, occurrences, alert_times)
        if known is not None:
            return known
    opening = {
        **of,
        **told,
        "opened_at": now,
        "updated_at": now,
        "occurrences": occurrences,
        "alerted_occurrences": 0,
        "alert_due_at": alert_times.first_alert(now),
        "alert_tries": 0,
        "alerts_sent": 0,
        "lease_token": 0,
    }
    opened = transaction.connection.execute(_insert(transaction.connection), opening).scalar_one_or_none()
    return None if opened is None else int(opened)


def _open_again(
    transaction: Transaction,
    of: dict[str, str],
    told: dict[str, Any],
    occurrences: int,
    alert_times: AlertTimes,
) -> int | None:
    now = transaction.now
    known = transaction.connection.execute(
        select(incident.c.id, incident.c.last_alert_at, incident.c.alerts_sent)
        .where(
            *(incident.c[name] == value for name, value in of.items()),
            incident.c.resolved_at > now - alert_times.reminder,
        )
        .order_by(incident.c.id.desc())
        .limit(1)
        .with_for_update()
    ).one_or_none()
    is_open = select(incident.c.id).where(
        is_unresolved, *(incident.c[name] == value for name, value in of.items())
    )
    if known is None or transaction.connection.execute(is_open).first() is not None:
        return None
    again = alert_times.alert_again(now, known.last_alert_at, known.alerts_sent)
    values = {
        **told,
        "opened_at": now,
        "updated_at": now,
        "resolved_at": None,
        "occurrences": incident.c.occurrences + occurrences,
        "acknowledged_at": None,
        "acknowledged_by": None,
        "acknowledged_occurrences": None,
        "alert_due_at": again,
        "alert_tries": 0,
        "alert_told": null(),
        # Whoever tells just now that it is over has nothing more to write.
        "lease_token": incident.c.lease_token + 1,
        "lease_until": None,
    }
    transaction.connection.execute(update(incident).where(incident.c.id == known.id).values(values))
    return int(known.id)


def _insert(connection: Connection) -> Any:
    return (
        insert_on(connection, incident)
        .on_conflict_do_nothing(
            index_elements=[
                incident.c.cause,
                incident.c.destination,
                incident.c.operation,
                incident.c.reason,
            ],
            index_where=is_unresolved,
        )
        .returning(incident.c.id)
    )


def resolve_incidents(transaction: Transaction, cause: str, destination: str) -> None:
    """Resolve what is open of a cause at a destination, since it is gone."""
    resolve_where(transaction, and_(incident.c.cause == cause, incident.c.destination == destination))


def resolve_where(
    transaction: Transaction, which: ColumnElement[bool], untold_is_due: ColumnElement[Any] | None = None
) -> None:
    """Resolve incidents; of those that somebody was told of, or may have been, it is told.

    Args:
        which: of those that are open.
        untold_is_due: when the alert of one is due that nobody was told of; by default never.
    """
    now = literal(transaction.now, incident.c.alert_due_at.type)
    transaction.connection.execute(
        update(incident)
        .where(is_unresolved, which)
        .values(
            resolved_at=transaction.now,
            alert_due_at=case((may_be_told, now), else_=null() if untold_is_due is None else untold_is_due),
            alert_tries=0,
            alert_told=null(),
        )
    )


is_unresolved = incident.c.resolved_at.is_(None)
# One whose alert is leased is being told, or was by a sender that died.
may_be_told = or_(incident.c.last_alert_at >= incident.c.opened_at, incident.c.lease_until.is_not(None))
