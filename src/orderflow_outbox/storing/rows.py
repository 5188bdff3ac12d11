"""A new message as rows of the tables."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, false, literal_column

from orderflow_outbox.messages import CheckedMessage
from orderflow_outbox.states import State
from orderflow_outbox.tables import message


class Stored(NamedTuple):
    """What the database gave a new message."""

    id: int
    created_at: datetime
    due_at: datetime


AT_FIRST: dict[str, ColumnElement[Any]] = {
    "state": literal_column(f"'{State.PENDING}'"),
    "attempts": literal_column("0"),
    "tries": literal_column("0"),
    "rescues": literal_column("0"),
    "lease_token": literal_column("0"),
    "in_doubt": false(),
}
"""Columns that are the same in every new message, written into the statement."""

SAME_IDENTITY: dict[str, Any] = {
    "index_elements": [message.c.destination, message.c.idempotency_key],
    "index_where": message.c.replay_of.is_(None),
}
"""The conflict of two messages with one idempotency key."""


def message_row(checked: CheckedMessage) -> dict[str, Any]:
    """Return the columns of the message that the shop decides."""
    return {
        "destination": checked.destination,
        "operation": checked.operation.name,
        "channel": checked.channel,
        "organisation": checked.organisation,
        "key": checked.key,
        "version": checked.version,
        "idempotency_key": checked.idempotency_key,
        "fingerprint": checked.fingerprint,
        "expires_at": checked.expires_at,
    }
