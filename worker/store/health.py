"""What tells how the database does: its clock, leases nobody took back, signs of life, and dead rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select, text

from orderflow_outbox.clock import database_now
from orderflow_outbox.tables import engine_seen, message

from .claiming import is_sending
from .transactions import Transaction

_DEAD_ROWS = text(
    "SELECT n_live_tup AS living, n_dead_tup AS dead FROM pg_stat_user_tables"
    " WHERE relid = to_regclass('outbox_message')"
)
# The sessions of other databases keep no rows of this one, and neither does autovacuum, which is no user's.
# Of another role's sessions a role sees only that they are there, unless it is in pg_read_all_stats.
_OLDEST_TRANSACTION = text(
    "SELECT max(clock_timestamp() - xact_start) AS age,"
    " count(*) FILTER (WHERE query = '<insufficient privilege>') AS hidden"
    " FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND usesysid IS NOT NULL"
)


@dataclass(frozen=True, slots=True)
class OverdueLeases:
    """Leases that should have been taken back.

    Attributes:
        number: how many there are.
        oldest: when the first of them ran out; None where there is none.
    """

    number: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class SignsOfLife:
    """The engines' signs of life.

    Attributes:
        recent: how many engines gave one lately.
        last: when the last of all was given; None where there was never one.
    """

    recent: int
    last: datetime | None


@dataclass(frozen=True, slots=True)
class RowCounts:
    """How many rows of a table live, and how many wait to be cleaned away, as the server has counted."""

    living: int
    dead: int


@dataclass(frozen=True, slots=True)
class OldestTransaction:
    """The transaction in this database, other than ours, that is open for longest.

    Attributes:
        age: for how long; None where there is none.
        hidden: how many sessions this role may not look at.
    """

    age: timedelta | None
    hidden: int


def clock(transaction: Transaction) -> datetime:
    """Return the moment by the database's clock, as late as it can be told."""
    return transaction.connection.execute(select(database_now())).scalar_one()  # type: ignore[no-any-return]


def overdue_leases(transaction: Transaction, grace: timedelta) -> OverdueLeases:
    """Return the leases that ran out longer ago than `grace` and are still held."""
    over = select(func.count(), func.min(message.c.lease_until)).where(
        is_sending, message.c.lease_until < transaction.now - grace
    )
    return OverdueLeases(*transaction.connection.execute(over).one())


def signs_of_life(transaction: Transaction, within: timedelta) -> SignsOfLife:
    """Return how many engines gave a sign of life `within` the last moments, and when the last one was."""
    seen = list(transaction.connection.execute(select(engine_seen.c.seen_at)).scalars())
    return SignsOfLife(sum(transaction.now - at < within for at in seen), max(seen, default=None))


def write_ahead_settings(transaction: Transaction) -> tuple[str, int]:
    """Return the journal mode of SQLite's file, and how this connection waits for the disk (2 is FULL)."""
    connection = transaction.connection
    mode = connection.execute(text("PRAGMA journal_mode")).scalar_one()
    return str(mode), int(connection.execute(text("PRAGMA synchronous")).scalar_one())


def row_counts(transaction: Transaction) -> RowCounts | None:
    """Return what PostgreSQL counts of the messages' table; None where there is no such table."""
    row = transaction.connection.execute(_DEAD_ROWS).one_or_none()
    return None if row is None else RowCounts(row.living, row.dead)


def oldest_transaction(transaction: Transaction) -> OldestTransaction:
    """Return the oldest transaction that PostgreSQL has open in this database, other than ours."""
    return OldestTransaction(*transaction.connection.execute(_OLDEST_TRANSACTION).one())
