"""Burying: a dead message's letter and its incident, in the transaction of its death."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import and_, exists, literal_column, select

from orderflow_outbox import Resolution
from orderflow_outbox.tables import dead_letter, incident
from worker.deliveries import Settlement
from worker.failpoints import Failpoint, come_by
from worker.verdicts import Why

from .causes import DEAD_LETTERS, AlertTimes, is_unresolved, note_incident, resolve_where
from .transactions import Transaction

# A literal, for the same reason as in claiming.
is_open = dead_letter.c.resolution == literal_column(f"'{Resolution.OPEN}'")


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
        come_by(Failpoint.IN_BURY)


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


def close_settled_incidents(transaction: Transaction) -> None:
    """Resolve every incident of dead letters of which none is open any more.

    One that nobody was told of yet is told all the same, by one alert that says both.
    """
    has_open_letters = exists().where(dead_letter.c.incident_id == incident.c.id, is_open)
    settled = transaction.connection.execute(
        select(incident.c.id)
        .where(incident.c.cause == DEAD_LETTERS, is_unresolved, ~has_open_letters)
        .order_by(incident.c.destination, incident.c.operation, incident.c.reason)
        .with_for_update()
    ).scalars()
    # Asked again once they are locked: a letter may have come while this waited for a lock.
    still = and_(incident.c.id.in_(settled.all()), ~has_open_letters)
    resolve_where(transaction, still, untold_is_due=incident.c.alert_due_at)
