"""Acknowledging an incident: somebody looks after it, and nobody is reminded any more."""

from __future__ import annotations

from orderflow_outbox.errors import OutboxError

from .store import incidents
from .store.resolving import note_audit
from .store.transactions import Store


class NoSuchIncident(OutboxError):
    """There is no open incident of that number."""


def acknowledge(store: Store, incident_id: int, by: str, why: str) -> None:
    """Take note of an incident: no more reminders of it, until it is over or twice as bad.

    Raises:
        NoSuchIncident: it does not exist, or is over.
    """
    with store.writing() as transaction:
        row = incidents.acknowledge(transaction, incident_id, by)
        if row is None:
            raise NoSuchIncident(
                f"incident {incident_id} is not open: python -m worker incidents lists those that are"
            )
        detail = {"incident": incident_id, "occurrences": row.occurrences}
        destination = row.destination or None
        note_audit(transaction, verb="acknowledge", by=by, why=why, destination=destination, detail=detail)
