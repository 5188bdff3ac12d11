"""What the service keeps: incidents, gates, signs of life, versions, who did what, who is signed in."""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    JSON,
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    event,
    text,
)

from orderflow_outbox.types import Identity64, UtcDateTime

from .columns import CURRENT_VERSION, NAME, REFERENCE, metadata

_UNRESOLVED = text("resolved_at IS NULL")
_ALERT_DUE = text("alert_due_at IS NOT NULL")

incident = Table(
    "outbox_incident",
    metadata,
    Column("id", Identity64, primary_key=True, autoincrement=True),
    Column("cause", NAME, nullable=False),
    Column("destination", NAME, nullable=False),
    Column("operation", NAME, nullable=False),
    Column("reason", NAME, nullable=False),
    Column("text", Text, nullable=False),
    Column("sample_message_id", Identity64),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("oldest_at", UtcDateTime, nullable=False),
    Column("occurrences", Integer, nullable=False),
    Column("alerted_occurrences", Integer, nullable=False),
    Column("alert_due_at", UtcDateTime),
    Column("alert_tries", Integer, nullable=False),
    Column("alert_told", JSON),
    Column("alerts_sent", Integer, nullable=False),
    Column("last_alert_at", UtcDateTime),
    Column("last_alert_error", Text),
    Column("lease_token", BigInteger, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("acknowledged_at", UtcDateTime),
    Column("acknowledged_by", REFERENCE),
    Column("acknowledged_occurrences", Integer),
    Column("resolved_at", UtcDateTime),
    Index(
        "outbox_incident_open",
        "cause",
        "destination",
        "operation",
        "reason",
        unique=True,
        sqlite_where=_UNRESOLVED,
        postgresql_where=_UNRESOLVED,
    ),
    Index("outbox_incident_due", "alert_due_at", sqlite_where=_ALERT_DUE, postgresql_where=_ALERT_DUE),
    sqlite_autoincrement=True,
)

gate = Table(
    "outbox_gate",
    metadata,
    Column("destination", NAME, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("refusals_in_a_row", Integer, nullable=False),
    Column("reason", NAME),
    Column("text", Text),
    Column("changed_by", REFERENCE),
    Column("changed_at", UtcDateTime),
    Column("breaker", String(16), nullable=False),
    Column("failures_in_a_row", Integer, nullable=False),
    Column("failed_ids", JSON),
    Column("failure_share", Float, nullable=False),
    Column("failed_probes", Integer, nullable=False),
    Column("probe_at", UtcDateTime),
    Column("prober", REFERENCE),
    Column("window", Integer),
    Column("window_ramp_to", Integer),
    Column("window_since", UtcDateTime),
    Column("window_answers", Integer),
    Column("window_seconds", Float),
    Column("window_patience", Integer),
    Column("best_seconds", Float),
    Column("best_at", UtcDateTime),
    Column("rate_tokens", Float),
    Column("rate_at", UtcDateTime),
    Column("paused_until", UtcDateTime),
    Column("limit_window", Integer),
    Column("limit_requests", Integer),
    Column("limit_seconds", Float),
)

gate_share = Table(
    "outbox_gate_share",
    metadata,
    Column("destination", NAME, primary_key=True),
    Column("engine", REFERENCE, primary_key=True),
    Column("slots", Integer, nullable=False),
    Column("wanted", Integer, nullable=False),
    Column("until", UtcDateTime, nullable=False),
)

engine_seen = Table(
    "outbox_engine_seen",
    metadata,
    Column("engine", REFERENCE, primary_key=True),
    Column("machine", NAME, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("swept_at", UtcDateTime, nullable=False),
)

# Beside the messages, of which no index tells the last one delivered.
last_delivery = Table(
    "outbox_last_delivery",
    metadata,
    Column("destination", NAME, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
)

version_seen = Table(
    "outbox_version_seen",
    metadata,
    Column("destination", NAME, primary_key=True),
    Column("operation", NAME, primary_key=True),
    Column("key", REFERENCE, primary_key=True),
    Column("version", BigInteger, nullable=False),
)

audit = Table(
    "outbox_audit",
    metadata,
    Column("id", Identity64, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("by", REFERENCE, nullable=False),
    Column("verb", String(32), nullable=False),
    Column("why", Text, nullable=False),
    Column("message_id", Identity64),
    Column("destination", NAME),
    Column("detail", JSON),
    Index("outbox_audit_message", "message_id"),
    sqlite_autoincrement=True,
)

# Who is signed in at the console. Of a session's token only the digest is here: who reads the table can
# use none of them.
session = Table(
    "outbox_session",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("user", NAME, nullable=False),
    Column("proof", LargeBinary(32), nullable=False),
    Column("begun_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
)

# Alembic keeps its own row here when the service makes the tables; whoever makes them in another way
# leaves the same row, so that either side can tell what it works on.
schema_version = Table(
    "outbox_schema_version",
    metadata,
    Column("version_num", String(32)),
    PrimaryKeyConstraint("version_num", name="outbox_schema_version_pkc"),  # as Alembic calls it
)
event.listen(
    schema_version,
    "after_create",
    DDL(f"INSERT INTO %(fullname)s (version_num) VALUES ('{CURRENT_VERSION:04}')"),  # type: ignore[no-untyped-call]  # noqa: S608
    propagate=True,
)
