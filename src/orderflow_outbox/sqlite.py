"""SQLite, made fit for an outbox: durable, and with writers that wait for each other."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, event

BUSY_TIMEOUT_SECONDS = 10
READS_ONLY = "outbox_reads_only"
_PREPARED = "orderflow_outbox.prepared"


def prepare(engine: Engine) -> Engine:
    """Give every connection of a SQLite `engine` the settings an outbox needs, and return it.

    Write-ahead logging with `synchronous=FULL`, foreign keys on, and 10 s of patience for another
    writer. Transactions begin with BEGIN IMMEDIATE, since one that first reads and then writes
    fails at once when another writer came in between; those that only read may say so by the
    execution option `outbox_reads_only` and never wait.
    """
    event.listen(engine, "connect", _settings)
    event.listen(engine, "begin", _begin)
    return engine


def is_prepared(connection: Connection) -> bool:
    """Tell whether `prepare` has had the making of this connection."""
    return bool(connection.info.get(_PREPARED, False))


def mark_prepared(connection: Connection) -> None:
    """Have `is_prepared` say yes to a connection whose transactions somebody else looks after."""
    connection.info[_PREPARED] = True


def _settings(connection: Any, record: Any) -> None:
    record.info[_PREPARED] = True
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    reads_only = connection.get_execution_options().get(READS_ONLY, False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
