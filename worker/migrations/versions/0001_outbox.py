"""The tables of the first release, complete: what is not used yet stands ready."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from orderflow_outbox.types import Identity64, UtcDateTime

revision = "0001"
down_revision = None


def _partial_index(
    name: str, table: str, columns: list[str], where: str, on_sqlite: str | None = None, unique: bool = False
) -> None:
    op.create_index(
        name,
        table,
        columns,
        unique=unique,
        sqlite_where=sa.text(on_sqlite or where),
        postgresql_where=sa.text(where),
    )


def upgrade() -> None:
    op.create_table(
        "outbox_audit",
        sa.Column("id", Identity64, autoincrement=True, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("by", sa.String(length=255), nullable=False),
        sa.Column("verb", sa.String(length=32), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("message_id", Identity64, nullable=True),
        sa.Column("destination", sa.String(length=64), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_audit_message", "outbox_audit", ["message_id"])
    op.create_table(
        "outbox_engine_seen",
        sa.Column("engine", sa.String(length=255), nullable=False),
        sa.Column("machine", sa.String(length=64), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.Column("swept_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("engine"),
    )
    op.create_table(
        "outbox_gate",
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("refusals_in_a_row", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("changed_by", sa.String(length=255), nullable=True),
        sa.Column("changed_at", UtcDateTime(), nullable=True),
        sa.Column("breaker", sa.String(length=16), nullable=False),
        sa.Column("failures_in_a_row", sa.Integer(), nullable=False),
        sa.Column("failed_ids", sa.JSON(), nullable=True),
        sa.Column("failure_share", sa.Float(), nullable=False),
        sa.Column("failed_probes", sa.Integer(), nullable=False),
        sa.Column("probe_at", UtcDateTime(), nullable=True),
        sa.Column("prober", sa.String(length=255), nullable=True),
        sa.Column("window", sa.Integer(), nullable=True),
        sa.Column("window_ramp_to", sa.Integer(), nullable=True),
        sa.Column("window_since", UtcDateTime(), nullable=True),
        sa.Column("window_answers", sa.Integer(), nullable=True),
        sa.Column("window_seconds", sa.Float(), nullable=True),
        sa.Column("window_patience", sa.Integer(), nullable=True),
        sa.Column("best_seconds", sa.Float(), nullable=True),
        sa.Column("best_at", UtcDateTime(), nullable=True),
        sa.Column("rate_tokens", sa.Float(), nullable=True),
        sa.Column("rate_at", UtcDateTime(), nullable=True),
        sa.Column("paused_until", UtcDateTime(), nullable=True),
        sa.Column("limit_window", sa.Integer(), nullable=True),
        sa.Column("limit_requests", sa.Integer(), nullable=True),
        sa.Column("limit_seconds", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("destination"),
    )
    op.create_table(
        "outbox_gate_share",
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("engine", sa.String(length=255), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("destination", "engine"),
    )
    op.create_table(
        "outbox_incident",
        sa.Column("id", Identity64, autoincrement=True, nullable=False),
        sa.Column("cause", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("operation", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("sample_message_id", Identity64, nullable=True),
        sa.Column("opened_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("oldest_at", UtcDateTime(), nullable=False),
        sa.Column("occurrences", sa.Integer(), nullable=False),
        sa.Column("alerted_occurrences", sa.Integer(), nullable=False),
        sa.Column("alert_due_at", UtcDateTime(), nullable=True),
        sa.Column("alert_tries", sa.Integer(), nullable=False),
        sa.Column("alert_told", sa.JSON(), nullable=True),
        sa.Column("alerts_sent", sa.Integer(), nullable=False),
        sa.Column("last_alert_at", UtcDateTime(), nullable=True),
        sa.Column("last_alert_error", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column("acknowledged_at", UtcDateTime(), nullable=True),
        sa.Column("acknowledged_by", sa.String(length=255), nullable=True),
        sa.Column("acknowledged_occurrences", sa.Integer(), nullable=True),
        sa.Column("resolved_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    _partial_index(
        "outbox_incident_open",
        "outbox_incident",
        ["cause", "destination", "operation", "reason"],
        "resolved_at IS NULL",
        unique=True,
    )
    _partial_index("outbox_incident_due", "outbox_incident", ["alert_due_at"], "alert_due_at IS NOT NULL")
    op.create_table(
        "outbox_last_delivery",
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("destination"),
    )
    op.create_table(
        "outbox_message",
        sa.Column("id", Identity64, autoincrement=True, nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("operation", sa.String(length=64), nullable=False),
        sa.Column("channel", sa.String(length=255), nullable=True),
        sa.Column("organisation", sa.String(length=255), nullable=True),
        sa.Column("key", sa.String(length=255), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("blocks", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=True),
        sa.Column("expires_at", UtcDateTime(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("rescues", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column("in_doubt", sa.Boolean(), nullable=False),
        sa.Column("edited", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("replay_of", Identity64, nullable=True),
        sa.Column("split_from", Identity64, nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
        postgresql_with={
            "autovacuum_vacuum_scale_factor": "0.01",
            "autovacuum_vacuum_cost_delay": "0",
            "autovacuum_analyze_scale_factor": "0.02",
        },
    )
    _partial_index(
        "outbox_message_due",
        "outbox_message",
        ["destination", "due_at", "id"],
        "state = 'pending' AND due_at IS NOT NULL",
    )
    _partial_index(
        "outbox_message_quarantined",
        "outbox_message",
        ["destination", "due_at", "id"],
        "state = 'pending' AND due_at IS NOT NULL AND rescues >= 2",
    )
    _partial_index(
        "outbox_message_identity",
        "outbox_message",
        ["destination", "idempotency_key"],
        "replay_of IS NULL",
        unique=True,
    )
    _partial_index(
        "outbox_message_replay", "outbox_message", ["replay_of"], "replay_of IS NOT NULL", unique=True
    )
    _partial_index(
        "outbox_message_order",
        "outbox_message",
        ["destination", "key", "position"],
        "blocks AND key IS NOT NULL",
        on_sqlite="blocks = 1 AND key IS NOT NULL",
    )
    _partial_index("outbox_message_sending", "outbox_message", ["id"], "state = 'sending'")
    op.create_table(
        "outbox_session",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("user", sa.String(length=64), nullable=False),
        sa.Column("proof", sa.LargeBinary(length=32), nullable=False),
        sa.Column("begun_at", UtcDateTime(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "outbox_version_seen",
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("operation", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("destination", "operation", "key"),
    )
    op.create_table(
        "outbox_attempt",
        sa.Column("message_id", Identity64, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("finished_at", UtcDateTime(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("checked_by", sa.String(length=64), nullable=True),
        sa.Column("request_line", sa.Text(), nullable=True),
        sa.Column("request_headers", sa.JSON(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("reply_headers", sa.JSON(), nullable=True),
        sa.Column("reply_body", sa.LargeBinary(), nullable=True),
        sa.Column("reply_complete", sa.Boolean(), nullable=True),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("rule", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("in_doubt", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["message_id"], ["outbox_message.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("message_id", "n"),
    )
    op.create_index(
        "outbox_attempt_finished",
        "outbox_attempt",
        ["finished_at"],
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )
    op.create_table(
        "outbox_body",
        sa.Column("message_id", Identity64, autoincrement=False, nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=True),
        sa.Column("query", sa.JSON(), nullable=False),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("message_id"),
    )
    op.create_table(
        "outbox_dead_letter",
        sa.Column("message_id", Identity64, nullable=False),
        sa.Column("incident_id", Identity64, nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("in_doubt", sa.Boolean(), nullable=False),
        sa.Column("died_at", UtcDateTime(), nullable=False),
        sa.Column("resolution", sa.String(length=16), nullable=False),
        sa.Column("resolved_at", UtcDateTime(), nullable=True),
        sa.Column("resolved_by", sa.String(length=255), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["incident_id"],
            ["outbox_incident.id"],
        ),
        sa.ForeignKeyConstraint(
            ["message_id"],
            ["outbox_message.id"],
        ),
        sa.PrimaryKeyConstraint("message_id"),
    )
    _partial_index(
        "outbox_dead_letter_incident", "outbox_dead_letter", ["incident_id"], "resolution = 'open'"
    )
    _partial_index("outbox_dead_letter_open", "outbox_dead_letter", ["died_at"], "resolution = 'open'")
    op.create_table(
        "outbox_item",
        sa.Column("message_id", Identity64, autoincrement=False, nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reference", sa.String(length=255), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", "n", "place"),
    )
    op.create_table(
        "outbox_term",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.Column("message_id", Identity64, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("name", "value", "message_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("outbox_term_message", "outbox_term", ["message_id"])
    op.create_table(
        "outbox_unindexed",
        sa.Column("message_id", Identity64, autoincrement=False, nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("message_id"),
    )
    op.create_table(
        "outbox_edit",
        sa.Column("message_id", Identity64, autoincrement=False, nullable=False),
        sa.Column("difference", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("message_id"),
    )
    op.create_table(
        "outbox_replay_run",
        sa.Column("id", Identity64, autoincrement=True, nullable=False),
        sa.Column("begun_at", UtcDateTime(), nullable=False),
        sa.Column("begun_by", sa.String(length=255), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("wanted", sa.JSON(), nullable=False),
        sa.Column("canary", sa.Integer(), nullable=False),
        sa.Column("canary_seconds", sa.Float(), nullable=False),
        sa.Column("canary_sent_at", UtcDateTime(), nullable=True),
        sa.Column("rate_requests", sa.Integer(), nullable=True),
        sa.Column("rate_seconds", sa.Float(), nullable=True),
        sa.Column("rate_tokens", sa.Float(), nullable=True),
        sa.Column("rate_at", UtcDateTime(), nullable=True),
        sa.Column("stop_share", sa.Float(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("goes_on_as", sa.String(length=16), nullable=True),
        sa.Column("said", sa.Text(), nullable=True),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.Column("changed_by", sa.String(length=255), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("chosen", sa.Integer(), nullable=False),
        sa.Column("next_place", sa.Integer(), nullable=False),
        sa.Column("left_out", sa.Integer(), nullable=False),
        sa.Column("sent", sa.Integer(), nullable=False),
        sa.Column("delivered", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("others", sa.Integer(), nullable=False),
        sa.Column("judged", sa.Integer(), nullable=False),
        sa.Column("judged_failed", sa.Integer(), nullable=False),
        sa.Column("latest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "outbox_replay_run_member",
        sa.Column("run_id", Identity64, autoincrement=False, nullable=False),
        sa.Column("message_id", Identity64, autoincrement=False, nullable=False),
        sa.Column("place", sa.Integer(), nullable=True),
        sa.Column("replay", Identity64, nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("said", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "message_id"),
    )
    op.create_index("outbox_replay_run_member_place", "outbox_replay_run_member", ["run_id", "place"])
    op.create_index("outbox_replay_run_member_message", "outbox_replay_run_member", ["message_id"])
    _partial_index(
        "outbox_replay_run_member_sent",
        "outbox_replay_run_member",
        ["run_id", "message_id"],
        "outcome = 'sent'",
    )
    op.create_table(
        "outbox_full_text",
        sa.Column("place", Identity64, autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("place"),
    )
    op.create_table(
        "outbox_unindexed_text",
        sa.Column("message_id", Identity64, autoincrement=False, nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("message_id", "n"),
    )
