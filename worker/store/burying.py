"""Burying: a dead message's letter and its incident, in the transaction of its death."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, exists, literal_column, select, update

from orderflow_outbox import Resolution
from orderflow_outbox.dialects import insert_on
from orderflow_outbox.tables import dead_letter, incident
from worker.deliveries import Settlement
from worker.verdicts import Why

from .transactions import Transaction

# A literal, for the same reason as in claiming.
is_open = dead_letter.c.resolution == literal_column(f"'{Resolution.OPEN}'")

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
    letters = []
    deaths = sorted((each for each in settlements if each.death is not None), key=_cause_of)
    # In one order, whoever buries: two that lock the same incidents the other way round would deadlock.
    for (destination, operation, reason), group in groupby(deaths, key=_cause_of):
        dying = list(group)
        incident_id = note_incident(
            transaction,
            cause=DEAD_LETTERS,
            destination=destination,
            operation=operation,
            reason=reason,
            text=_death_of(dying[-1]).text,
            message_id=dying[-1].claim.id,
            alert_times=alert_times,
            occurrences=len(dying),
        )
        letters += [_letter(transaction, each, incident_id) for each in dying]
    if letters:
        transaction.connection.execute(dead_letter.insert(), letters)


def _death_of(settlement: Settlement) -> Why:
    assert settlement.death is not None  # noqa: S101 (only the dead are buried)
    return settlement.death


def _cause_of(settlement: Settlement) -> tuple[str, str, str]:
    return settlement.claim.destination, settlement.claim.operation, _death_of(settlement).reason


def _letter(transaction: Transaction, settlement: Settlement, incident_id: int) -> dict[str, Any]:
    death = _death_of(settlement)
    return {
        "message_id": settlement.claim.id,
        "incident_id": incident_id,
        "reason": death.reason,
        "text": death.text,
        "in_doubt": settlement.in_doubt,
        "died_at": transaction.now,
        "resolution": Resolution.OPEN.value,
    }


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
        known = _unresolved(transaction, destination, operation, reason)
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


def _unresolved(transaction: Transaction, destination: str, operation: str, reason: str) -> Any:
    return transaction.connection.execute(
        select(incident.c.id, incident.c.alert_due_at, incident.c.last_alert_at)
        .where(
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
            index_elements=[incident.c.destination, incident.c.operation, incident.c.reason],
            index_where=incident.c.resolved_at.is_(None),
        )
        .returning(incident.c.id)
    )


def close_settled_incidents(transaction: Transaction) -> None:
    """Resolve every incident of dead letters of which none is open any more."""
    connection = transaction.connection
    has_open_letters = exists().where(dead_letter.c.incident_id == incident.c.id, is_open)
    settled = connection.execute(
        select(incident.c.id)
        .where(incident.c.cause == DEAD_LETTERS, incident.c.resolved_at.is_(None), ~has_open_letters)
        .order_by(incident.c.destination, incident.c.operation, incident.c.reason)
        .with_for_update()
    ).scalars()
    # Asked again once they are locked: a letter may have come while this waited for a lock.
    connection.execute(
        update(incident)
        .where(incident.c.id.in_(settled.all()), ~has_open_letters)
        .values(resolved_at=transaction.now)
    )
