"""The tables, all prefixed `outbox_`: they live in the shop's own database, beside its own.

`outbox_message` is narrow and hot; bodies, attempts and dead letters stand beside it.
"""

from __future__ import annotations

from .columns import CURRENT_VERSION, metadata
from .messages import (
    attempt,
    body,
    dead_letter,
    item,
    message,
    message_numbers,
    term,
    unindexed,
)
from .service import (
    audit,
    engine_seen,
    gate,
    gate_share,
    incident,
    last_delivery,
    schema_version,
    version_seen,
)

__all__ = [
    "CURRENT_VERSION",
    "attempt",
    "audit",
    "body",
    "dead_letter",
    "engine_seen",
    "gate",
    "gate_share",
    "incident",
    "item",
    "last_delivery",
    "message",
    "message_numbers",
    "metadata",
    "schema_version",
    "term",
    "unindexed",
    "version_seen",
]
