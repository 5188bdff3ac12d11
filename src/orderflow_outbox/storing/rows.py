"""A new message as rows of the tables."""

from __future__ import annotations

import json
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


MESSAGE_COLUMNS = (
    "destination",
    "operation",
    "channel",
    "organisation",
    "key",
    "version",
    "idempotency_key",
    "fingerprint",
    "expires_at",
)
"""Those of a message that the shop decides."""


def message_row(checked: CheckedMessage) -> dict[str, Any]:
    """Return the values of `MESSAGE_COLUMNS`."""
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


def body_row(checked: CheckedMessage) -> dict[str, Any]:
    """Return the message's body, with query and headers as the JSON that is stored."""
    return {
        "payload": checked.payload,
        "sha256": checked.sha256,
        "query_json": _json(checked.query),
        "headers_json": _json(checked.headers),
    }


def _json(mapping: dict[str, str]) -> str:
    return json.dumps(mapping) if mapping else "{}"
