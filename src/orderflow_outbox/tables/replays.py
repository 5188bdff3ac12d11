"""What is kept of replays: runs of many with care, and the differences of documents that were edited."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, Index, Integer, String, Table, Text, text

from orderflow_outbox.types import Identity64, UtcDateTime

from .columns import REFERENCE, metadata

_SENT = text("outcome = 'sent'")

replay_run = Table(
    "outbox_replay_run",
    metadata,
    Column("id", Identity64, primary_key=True, autoincrement=True),
    Column("begun_at", UtcDateTime, nullable=False),
    Column("begun_by", REFERENCE, nullable=False),
    Column("why", Text, nullable=False),
    Column("wanted", JSON, nullable=False),
    Column("canary", Integer, nullable=False),
    Column("canary_seconds", Float, nullable=False),
    Column("canary_sent_at", UtcDateTime),
    Column("rate_requests", Integer),
    Column("rate_seconds", Float),
    Column("rate_tokens", Float),
    Column("rate_at", UtcDateTime),
    Column("stop_share", Float),
    Column("state", String(16), nullable=False),
    Column("goes_on_as", String(16)),
    Column("said", Text),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("changed_by", REFERENCE, nullable=False),
    Column("total", Integer, nullable=False),
    Column("chosen", Integer, nullable=False),
    Column("next_place", Integer, nullable=False),
    Column("left_out", Integer, nullable=False),
    Column("sent", Integer, nullable=False),
    Column("delivered", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("others", Integer, nullable=False),
    Column("judged", Integer, nullable=False),
    Column("judged_failed", Integer, nullable=False),
    Column("latest", String(64), nullable=False),
    sqlite_autoincrement=True,
)

# The messages of a run are fixed when it begins. `place` is when their turn comes, null where it never does.
replay_run_member = Table(
    "outbox_replay_run_member",
    metadata,
    Column("run_id", Identity64, primary_key=True, autoincrement=False),
    Column("message_id", Identity64, primary_key=True, autoincrement=False),
    Column("place", Integer),
    Column("replay", Identity64),
    Column("outcome", String(16), nullable=False),
    Column("said", Text),
    Index("outbox_replay_run_member_place", "run_id", "place"),
    Index("outbox_replay_run_member_message", "message_id"),
    Index(
        "outbox_replay_run_member_sent", "run_id", "message_id", sqlite_where=_SENT, postgresql_where=_SENT
    ),
)

# Beside the body, not in the audit: it is a piece of a document, and goes where documents go.
edit = Table(
    "outbox_edit",
    metadata,
    Column("message_id", Identity64, primary_key=True, autoincrement=False),
    Column("difference", Text, nullable=False),
)
