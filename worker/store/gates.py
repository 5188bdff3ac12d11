"""The gate of a destination: open, or held, by hand or because it turns everyone away."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from orderflow_outbox.dialects import insert_on
from orderflow_outbox.states import HELD
from orderflow_outbox.tables import gate
from worker.verdicts import Why

from .causes import DESTINATION_HELD, NO_OPERATION, AlertTimes, note_incident, resolve_incidents
from .transactions import Transaction

OPEN = "open"
_BLANK = {"state": OPEN, "refusals_in_a_row": 0, "breaker": "closed", "failures_in_a_row": 0}


def lock(transaction: Transaction, destination: str) -> None:
    """Lock a destination's gate until the transaction ends, making it where there is none."""
    connection = transaction.connection
    connection.execute(
        insert_on(connection, gate)
        .values(**{**_BLANK, "destination": destination})
        .on_conflict_do_nothing(index_elements=[gate.c.destination])
    )
    connection.execute(select(gate.c.destination).where(gate.c.destination == destination).with_for_update())


def refusals_in_a_row(transaction: Transaction, destination: str) -> int:
    """Return how often in a row the destination has turned us away."""
    return (
        transaction.connection.execute(
            select(gate.c.refusals_in_a_row).where(gate.c.destination == destination)
        ).scalar_one_or_none()
        or 0
    )


def set_refusals(transaction: Transaction, destination: str, refusals: int) -> None:
    """Write how often in a row the destination has turned us away."""
    _write(transaction, destination, {"refusals_in_a_row": refusals})


def hold(
    transaction: Transaction, destination: str, why: Why, by: str, alert_times: AlertTimes | None
) -> None:
    """Hold a destination: nothing is claimed for it until it is resumed.

    Args:
        alert_times: when the alert is due; None opens no incident, as when a person holds it.
    """
    _write(
        transaction,
        destination,
        {
            "state": HELD,
            "reason": why.reason,
            "text": why.text,
            "changed_by": by,
            "changed_at": transaction.now,
        },
    )
    if alert_times is not None:
        note_incident(
            transaction,
            cause=DESTINATION_HELD,
            destination=destination,
            operation=NO_OPERATION,
            reason=why.reason,
            text=why.text,
            message_id=None,
            alert_times=alert_times,
        )


def resume(transaction: Transaction, destination: str, by: str) -> bool:
    """Open a held destination and resolve its incident; return whether it was held."""
    was_held = state_of(transaction, destination) == HELD
    _write(
        transaction,
        destination,
        {
            "state": OPEN,
            "refusals_in_a_row": 0,
            "reason": None,
            "text": None,
            "changed_by": by,
            "changed_at": transaction.now,
        },
    )
    resolve_incidents(transaction, DESTINATION_HELD, destination)
    return was_held


def state_of(transaction: Transaction, destination: str) -> str:
    """Return `open` or `held`."""
    return (
        transaction.connection.execute(
            select(gate.c.state).where(gate.c.destination == destination)
        ).scalar_one_or_none()
        or OPEN
    )


def _write(transaction: Transaction, destination: str, values: dict[str, Any]) -> None:
    connection = transaction.connection
    connection.execute(
        insert_on(connection, gate)
        .values(**{**_BLANK, **values, "destination": destination})
        .on_conflict_do_update(index_elements=[gate.c.destination], set_=values)
    )
