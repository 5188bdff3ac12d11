"""The index by which texts are found: the service's own, made where the database lets it.

PostgreSQL needs the extension pg_trgm, which a role may make that may create in the database; SQLite FTS5
with its trigram tokenizer, which a few builds leave out. Without it everything else works, and texts are kept
all the same: once the index can be made it is made over those that are there.
"""

from __future__ import annotations

import sqlite3

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from .transactions import Transaction

NAME = "outbox_full_text_trigrams"
FIX = "have the database's owner run CREATE EXTENSION pg_trgm, then run `python -m worker db upgrade`"
FIX_ON_SQLITE = (
    "run the service on a Python whose SQLite has FTS5 (3.34 or newer), then `python -m worker db upgrade`"
)
PAGES = 500
"""Pages of SQLite's index that are merged by one transaction: everyone waits meanwhile."""

_IS_THERE = text("SELECT to_regclass(:name) IS NOT NULL")
_IS_THERE_ON_SQLITE = text(
    f"SELECT count(*) > 0 FROM sqlite_master WHERE type = 'trigger' AND name = '{NAME}_added'"  # noqa: S608 (our own name)
)
_EXTENSION = text(
    "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace"
    " WHERE extname = 'pg_trgm'"
)
_MERGE = text(f"INSERT INTO {NAME} ({NAME}, rank) VALUES ('merge', :pages)")  # noqa: S608 (our own name)
# The index holds no text of its own, and learns of the table's rows by triggers, whoever writes them.
_ON_SQLITE = (
    f"DROP TRIGGER IF EXISTS {NAME}_gone",
    f"DROP TABLE IF EXISTS {NAME}",
    f"CREATE VIRTUAL TABLE {NAME} USING fts5("
    "text, content = 'outbox_full_text', content_rowid = 'place', tokenize = 'trigram case_sensitive 1')",
    f"CREATE TRIGGER {NAME}_added AFTER INSERT ON outbox_full_text BEGIN"  # noqa: S608 (our own name)
    f" INSERT INTO {NAME} (rowid, text) VALUES (new.place, new.text); END",
    f"CREATE TRIGGER {NAME}_gone AFTER DELETE ON outbox_full_text BEGIN"  # noqa: S608 (our own name)
    f" INSERT INTO {NAME} ({NAME}, rowid, text) VALUES ('delete', old.place, old.text); END",
    f"INSERT INTO {NAME} ({NAME}) VALUES ('rebuild')",  # noqa: S608 (our own name)
)


def ensure(connection: Connection) -> bool:
    """Make the index where it is missing, over all texts there are; return whether it is there now."""
    if _is_there(connection):
        return True
    try:
        with connection.begin_nested():
            if connection.dialect.name == "postgresql":
                _make(connection)
            else:
                for statement in _ON_SQLITE:
                    connection.exec_driver_sql(statement)
    except DBAPIError:
        return False
    return True


def is_there(transaction: Transaction) -> bool:
    """Tell whether texts are found by an index."""
    return _is_there(transaction.connection)


def fix_on(transaction: Transaction) -> str:
    """Return what makes the index possible on this kind of database."""
    return FIX if transaction.connection.dialect.name == "postgresql" else FIX_ON_SQLITE


def merge_some(transaction: Transaction, begin: bool) -> bool:
    """Take what is left of deleted texts out of a piece of SQLite's index; return whether there is more.

    PostgreSQL's does so whenever it is vacuumed.

    Args:
        begin: with the whole index, which is left as it is where it has no more than one part.
    """
    driver = transaction.connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection) or not is_there(transaction):
        return False
    before = driver.total_changes
    transaction.connection.execute(_MERGE, {"pages": -PAGES if begin else PAGES})
    return driver.total_changes - before >= 2


def _is_there(connection: Connection) -> bool:
    if connection.dialect.name == "postgresql":
        return bool(connection.scalar(_IS_THERE, {"name": NAME}))
    return bool(connection.scalar(_IS_THERE_ON_SQLITE))


def _make(connection: Connection) -> None:
    connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
    place = connection.scalar(_EXTENSION)
    connection.exec_driver_sql(
        f"CREATE INDEX {NAME} ON outbox_full_text USING gin (text {place}.gin_trgm_ops)"
    )
