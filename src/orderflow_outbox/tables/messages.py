"""Messages, and what is stored of each: body, terms, attempts, results of items, dead letter."""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Sequence,
    String,
    Table,
    Text,
    event,
    false,
    text,
)

from orderflow_outbox.types import Identity64, UtcDateTime

from .columns import NAME, REFERENCE, metadata

_PENDING_AND_DUE = text("state = 'pending' AND due_at IS NOT NULL")
_IN_QUARANTINE = text("state = 'pending' AND due_at IS NOT NULL AND rescues >= 2")
_SENDING = text("state = 'sending'")
_BLOCKING = text("blocks AND key IS NOT NULL")
_BLOCKING_ON_SQLITE = text("blocks = 1 AND key IS NOT NULL")  # as SQLAlchemy asks for it there
_ORIGINAL = text("replay_of IS NULL")
_REPLAY = text("replay_of IS NOT NULL")
_OPEN = text("resolution = 'open'")

message = Table(
    "outbox_message",
    metadata,
    Column("id", Identity64, primary_key=True, autoincrement=True),
    Column("destination", NAME, nullable=False),
    Column("operation", NAME, nullable=False),
    Column("channel", REFERENCE),
    Column("organisation", REFERENCE),
    Column("key", REFERENCE),
    Column("position", BigInteger, nullable=False),
    Column("blocks", Boolean, nullable=False),
    Column("version", BigInteger),
    Column("idempotency_key", REFERENCE, nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("due_at", UtcDateTime),
    Column("expires_at", UtcDateTime),
    Column("attempts", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("rescues", Integer, nullable=False),
    Column("lease_token", BigInteger, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("in_doubt", Boolean, nullable=False),
    Column("edited", Boolean, nullable=False, server_default=false()),
    Column("replay_of", Identity64),
    Column("split_from", Identity64),
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Index(
        "outbox_message_due",
        "destination",
        "due_at",
        "id",
        sqlite_where=_PENDING_AND_DUE,
        postgresql_where=_PENDING_AND_DUE,
    ),
    Index(
        "outbox_message_quarantined",
        "destination",
        "due_at",
        "id",
        sqlite_where=_IN_QUARANTINE,
        postgresql_where=_IN_QUARANTINE,
    ),
    # By id, not by lease: an index on lease_until would tempt the planner to drive the guarded
    # UPDATE of a result from it and to walk every entry of the past.
    Index("outbox_message_sending", "id", sqlite_where=_SENDING, postgresql_where=_SENDING),
    Index(
        "outbox_message_order",
        "destination",
        "key",
        "position",
        sqlite_where=_BLOCKING_ON_SQLITE,
        postgresql_where=_BLOCKING,
    ),
    Index(
        "outbox_message_identity",
        "destination",
        "idempotency_key",
        unique=True,
        sqlite_where=_ORIGINAL,
        postgresql_where=_ORIGINAL,
    ),
    Index(
        "outbox_message_replay",
        "replay_of",
        unique=True,
        sqlite_where=_REPLAY,
        postgresql_where=_REPLAY,
    ),
    sqlite_autoincrement=True,
)

message_numbers = Sequence("outbox_message_id_seq")
"""PostgreSQL's own sequence behind `outbox_message.id`."""

# By PostgreSQL's own settings a table with a million finished messages would be cleaned after 200,000
# of them; so it is after 10,000. SQLAlchemy 2.0 takes no such settings as options of a table.
_vacuum_often = DDL(  # type: ignore[no-untyped-call]
    "ALTER TABLE %(fullname)s SET (autovacuum_vacuum_scale_factor = 0.01,"
    " autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.02)"
)
# It goes along to a shop's own metadata, by `propagate`.
event.listen(message, "after_create", _vacuum_often.execute_if(dialect="postgresql"), propagate=True)


# The shop waits while this is stored, with the message and by the same statement: so no foreign key,
# which PostgreSQL looks up as slowly as it inserts a row.
body = Table(
    "outbox_body",
    metadata,
    Column("message_id", Identity64, primary_key=True, autoincrement=False),
    Column("payload", LargeBinary),
    Column("sha256", LargeBinary(32)),
    Column("query", JSON, nullable=False),
    Column("headers", JSON, nullable=False),
)

# A message has several of these: so on SQLite no row number beside the primary key.
term = Table(
    "outbox_term",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("value", REFERENCE, primary_key=True),
    Column("message_id", Identity64, primary_key=True, autoincrement=False),
    Index("outbox_term_message", "message_id"),
    sqlite_with_rowid=False,
)

# The terms of a message as the shop leaves them, in one text. The service makes the rows above of it,
# which with their entries in two indexes would be paid for by the shop's transaction.
unindexed = Table(
    "outbox_unindexed",
    metadata,
    Column("message_id", Identity64, primary_key=True, autoincrement=False),
    Column("terms", Text, nullable=False),
)

# What people search by any piece of: the text of a message's request, at the place of attempt 0, and of the
# reply to each attempt. A place is message × PLACES + attempt: all of a message stand together.
full_text = Table(
    "outbox_full_text",
    metadata,
    Column("place", Identity64, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
)
PLACES = 4096
"""Of each message; replies to later attempts are not searched by text."""

# The texts that the service has not made yet: numbers alone, which cost whoever records a reply little.
unindexed_text = Table(
    "outbox_unindexed_text",
    metadata,
    Column("message_id", Identity64, primary_key=True, autoincrement=False),
    Column("n", Integer, primary_key=True, autoincrement=False),
)

attempt = Table(
    "outbox_attempt",
    metadata,
    Column("message_id", Identity64, ForeignKey("outbox_message.id", ondelete="CASCADE"), primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime, nullable=False),
    Column("seconds", Float),
    Column("checked_by", NAME),
    Column("request_line", Text),
    Column("request_headers", JSON),
    Column("status", Integer),
    Column("reply_headers", JSON),
    Column("reply_body", LargeBinary),
    Column("reply_complete", Boolean),
    Column("verdict", String(16), nullable=False),
    Column("rule", NAME),
    Column("reason", NAME),
    Column("error", Text),
    Column("in_doubt", Boolean, nullable=False),
    # Attempts are stored in the order of their ends: on PostgreSQL ranges of blocks are enough to find
    # the latest by, and writing an attempt costs no more than without them.
    Index(
        "outbox_attempt_finished",
        "finished_at",
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    ),
)

# What an attempt's reply said of each item of the message.
item = Table(
    "outbox_item",
    metadata,
    Column("message_id", Identity64, primary_key=True, autoincrement=False),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("reference", REFERENCE, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("rule", NAME, nullable=False),
    Column("reason", NAME, nullable=False),
    Column("text", Text, nullable=False),
)

dead_letter = Table(
    "outbox_dead_letter",
    metadata,
    Column("message_id", Identity64, ForeignKey("outbox_message.id"), primary_key=True),
    Column("incident_id", Identity64, ForeignKey("outbox_incident.id"), nullable=False),
    Column("reason", NAME, nullable=False),
    Column("text", Text, nullable=False),
    Column("in_doubt", Boolean, nullable=False),
    Column("died_at", UtcDateTime, nullable=False),
    Column("resolution", String(16), nullable=False),
    Column("resolved_at", UtcDateTime),
    Column("resolved_by", REFERENCE),
    Column("note", Text),
    Index("outbox_dead_letter_open", "died_at", sqlite_where=_OPEN, postgresql_where=_OPEN),
    Index("outbox_dead_letter_incident", "incident_id", sqlite_where=_OPEN, postgresql_where=_OPEN),
)
