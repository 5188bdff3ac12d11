"""SQLite, made fit for an outbox: durable, and with writers that wait for each other."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from sqlalchemy import Connection, Engine, event

from .errors import NotTransactional

BUSY_TIMEOUT_SECONDS = 10
TURN_SECONDS = 0.001
"""How often a writer looks whether its turn has come; SQLite by itself sleeps for up to 0.1 s in between."""
READS_ONLY = "outbox_reads_only"
_BEGIN_TO_WRITE = "BEGIN IMMEDIATE"
_LOOK_AGAIN_SECONDS = 0.02
_AS_EVER = -1  # sqlite3.LEGACY_TRANSACTION_CONTROL, from Python 3.12 on
_PREPARED = "orderflow_outbox.prepared"


def prepare(engine: Engine) -> Engine:
    """Give every connection of a SQLite `engine` the settings an outbox needs, and return it.

    Write-ahead logging with `synchronous=FULL`, foreign keys on, and 10 s of patience for another
    writer. Transactions begin with BEGIN IMMEDIATE, since one that first reads and then writes
    fails at once when another writer came in between; those that only read may say so by the
    execution option `outbox_reads_only` and never wait.

    Call it before the engine's first connection. An engine of another database is returned as it is, so
    that a shop may call this whatever its address says.

    Raises:
        NotTransactional: by the first connection, of a driver told to begin transactions in its own way.
    """
    if engine.dialect.name != "sqlite":
        return engine
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
    if getattr(connection, "autocommit", _AS_EVER) != _AS_EVER:
        # Its commit would do nothing, or its BEGIN come before ours.
        raise NotTransactional(
            "this SQLite engine sets the driver's autocommit: leave it out of connect_args, transactions "
            "begin with BEGIN IMMEDIATE here"
        )
    record.info[_PREPARED] = True
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000}")
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """Switch the file to write-ahead logging: for that SQLite does not wait for another who does the same."""
    ends = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except Exception as error:
            if "locked" not in str(error) or time.monotonic() > ends:
                raise
            time.sleep(_LOOK_AGAIN_SECONDS)
        else:
            return


def _begin(connection: Connection) -> None:
    driver = connection.connection.driver_connection
    if connection.get_execution_options().get(READS_ONLY, False):
        connection.exec_driver_sql("BEGIN")
    elif isinstance(driver, sqlite3.Connection):
        _begin_in_turn(connection, driver)
    else:  # for an event loop, which must not be kept: such a driver waits in a thread of its own
        connection.exec_driver_sql(_BEGIN_TO_WRITE)


def _begin_in_turn(connection: Connection, driver: sqlite3.Connection) -> None:
    try:
        _wait_and_begin(driver)
    except sqlite3.Error as error:  # raised as SQLAlchemy does, of whom the statement knows nothing
        connection._handle_dbapi_exception(error, _BEGIN_TO_WRITE, None, None, None)


def _wait_and_begin(driver: sqlite3.Connection) -> None:
    """Begin to write as soon as the writer before has ended."""
    (milliseconds,) = driver.execute("PRAGMA busy_timeout").fetchone()
    ends = time.monotonic() + milliseconds / 1000
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                driver.execute(_BEGIN_TO_WRITE)
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() >= ends:
                    raise
            else:
                return
            time.sleep(TURN_SECONDS)
    finally:
        driver.execute(f"PRAGMA busy_timeout = {milliseconds}")


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
