"""The tables, all prefixed `outbox_`: they live in the shop's own database, beside its own.

`outbox_message` is narrow and hot; bodies, attempts and dead letters stand beside it.
"""

from __future__ import annotations

from .columns import CURRENT_VERSION, metadata
from .messages import (
    PLACES,
    attempt,
    body,
    dead_letter,
    full_text,
    item,
    message,
    message_numbers,
    term,
    unindexed,
    unindexed_text,
)
from .replays import edit, replay_run, replay_run_member
from .service import (
    audit,
    engine_seen,
    gate,
    gate_share,
    incident,
    last_delivery,
    schema_version,
    session,
    version_seen,
)

__all__ = [
    "CURRENT_VERSION",
    "PLACES",
    "attempt",
    "audit",
    "body",
    "dead_letter",
    "edit",
    "engine_seen",
    "full_text",
    "gate",
    "gate_share",
    "incident",
    "item",
    "last_delivery",
    "message",
    "message_numbers",
    "metadata",
    "replay_run",
    "replay_run_member",
    "schema_version",
    "session",
    "term",
    "unindexed",
    "unindexed_text",
    "version_seen",
]
