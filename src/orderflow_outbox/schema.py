"""Which versions of the tables this release writes and understands."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from weakref import WeakSet

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError

from .errors import UnsupportedSchema
from .tables import CURRENT_VERSION, schema_version

OLDEST_SUPPORTED_VERSION = 1
VERSION_TABLE = schema_version.name
_UNDEFINED_TABLE = "42P01"  # PostgreSQL's code

DATABASE = "orderflow_outbox.database"
"""Where a lent connection says what tells which database it leads to."""

_checked: WeakSet[Engine] = WeakSet()
_checked_databases: set[Hashable] = set()


def check_once(connection: Connection) -> None:
    """Look whether this release works with the tables that `connection` leads to, once for each engine.

    One engine may serve many databases, when connections are lent to it: then once for each of these.

    Raises:
        UnsupportedSchema: it does not.
    """
    if connection.engine in _checked:
        return
    named: Callable[[], Hashable] | None = connection.info.get(DATABASE)
    database = None if named is None else named()
    if database in _checked_databases:
        return
    check_version(version_of(connection))
    if named is None:
        _checked.add(connection.engine)
    elif database is not None:
        _checked_databases.add(database)


def check_version(found: int | None) -> None:
    """Refuse a version of the tables that this release does not work with; None where there are none.

    Raises:
        UnsupportedSchema: it does not.
    """
    if found is None or not OLDEST_SUPPORTED_VERSION <= found <= CURRENT_VERSION:
        raise UnsupportedSchema(found, OLDEST_SUPPORTED_VERSION, CURRENT_VERSION)


def version_of(connection: Connection) -> int | None:
    """Return the version of the outbox tables, None where there are none; the transaction goes on."""
    try:
        with connection.begin_nested():  # PostgreSQL ends a transaction in which a statement failed
            found = connection.scalar(select(schema_version.c.version_num))
    except DBAPIError as error:
        if not _is_missing_table(error):
            raise
        return None
    return None if found is None else int(found)


def _is_missing_table(error: DBAPIError) -> bool:
    code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    return code == _UNDEFINED_TABLE or "no such table" in str(error.orig)
