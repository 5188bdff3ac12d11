"""A connection that the shop's own tools opened, lent to the outbox with its transaction.

Django, Peewee and plain drivers keep the transaction on a connection of their own. SQLAlchemy gets
a stand-in for that connection, which makes cursors on it and passes on nothing else: whatever
begins, ends or sets up a transaction stays with the shop.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar

from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.pool import NullPool

from .errors import NotTransactional, UnsupportedDatabase
from .schema import DATABASE
from .sqlite import mark_prepared

_IDLE = 0  # the same number in psycopg, psycopg2 and libpq


@contextmanager
def borrowed(dbapi_connection: object) -> Iterator[Connection]:
    """Give a SQLAlchemy connection on `dbapi_connection`, in the transaction that is open there.

    What is enqueued on it is committed or rolled back with the shop's own work, by the shop. Its own
    `commit` and `rollback` do nothing, and the lent connection keeps every setting::

        with transaction.atomic():
            Order.objects.create(number=number)
            with borrowed(connection.connection) as outbox:
                enqueue(outbox, "order-import", document, channel="web")

    Args:
        dbapi_connection: a connection of sqlite3, psycopg or psycopg2, with a transaction open.

    Raises:
        NotTransactional: no transaction is open, so a rollback could not take a message back; raised
            by what is executed in the block, too, once the transaction has ended.
        UnsupportedDatabase: the connection is of another kind.
    """
    stand_in = _stand_in(dbapi_connection)
    stand_in.check()
    reset = _entering.set(stand_in)
    try:
        connection = _engine(stand_in.url).connect()
    finally:
        _entering.reset(reset)
    with connection:
        mark_prepared(connection)
        connection.info[DATABASE] = stand_in.database
        yield connection


class _StandIn(ABC):
    """What SQLAlchemy takes for the driver's connection."""

    url: ClassVar[str]

    def __init__(self, lent: Any) -> None:
        self._lent = lent

    def check(self) -> None:
        """Refuse what a rollback could not take back."""
        if not self._transactional():
            driver = type(self._lent).__module__.partition(".")[0]
            raise NotTransactional(
                f"the lent {driver} connection has no transaction open: begin one (BEGIN IMMEDIATE on "
                "SQLite, transaction.atomic() in Django), and enqueue before it ends"
            )

    def cursor(self) -> Any:
        self.check()
        return self._cursor()

    def commit(self) -> None:
        return  # the connection is the shop's

    rollback = close = commit

    @abstractmethod
    def database(self) -> Hashable:
        """Return what tells the lent connection's database from others; None where nothing does."""

    @abstractmethod
    def _transactional(self) -> bool:
        """Tell whether a rollback of the shop's takes back what is executed now."""

    @abstractmethod
    def _cursor(self) -> Any:
        """Return a cursor that the shop's row factory does not reach."""


class _Sqlite3(_StandIn):
    url = "sqlite+pysqlite://"

    def _transactional(self) -> bool:
        return bool(self._lent.in_transaction)

    def database(self) -> Hashable:
        return next((row[2] for row in self._cursor().execute("PRAGMA database_list")), None) or None

    def _cursor(self) -> sqlite3.Cursor:
        return sqlite3.Cursor(self._lent)


class _PostgreSQL(_StandIn):
    def database(self) -> Hashable:
        where = self._lent.info
        return None if self._lent.closed else (where.host, where.port, where.dbname)

    @property
    def closed(self) -> Any:
        return self._lent.closed

    def _transactional(self) -> bool:
        # Without autocommit the driver begins a transaction before whatever is executed first.
        return not self._lent.autocommit or self._lent.info.transaction_status != _IDLE


class _Psycopg(_PostgreSQL):
    url = "postgresql+psycopg://"

    @property
    def broken(self) -> bool:
        return bool(self._lent.broken)

    def _cursor(self) -> Any:
        return _psycopg_cursor()(self._lent)


class _Psycopg2(_PostgreSQL):
    url = "postgresql+psycopg2://"

    def _cursor(self) -> Any:
        return _psycopg2_cursor()(self._lent)


_KINDS: dict[str, type[_StandIn]] = {
    "sqlite3.Connection": _Sqlite3,
    "psycopg.Connection": _Psycopg,
    "psycopg2.extensions.connection": _Psycopg2,
}
"""By the name of the driver's class, so that no driver is imported that the shop does not use."""

_entering: ContextVar[_StandIn | None] = ContextVar("orderflow_outbox.entering", default=None)


def _stand_in(lent: object) -> _StandIn:
    names = [f"{each.__module__}.{each.__qualname__}" for each in type(lent).__mro__]
    for name in names:
        if name in _KINDS:
            return _KINDS[name](lent)
    raise UnsupportedDatabase(
        f"lent as {names[0]}", f"lend a {' or '.join(_KINDS)} (in Django, connection.connection)"
    )


@cache
def _engine(url: str) -> Engine:
    """Return the engine of a driver; it opens nothing, and is put together by hand.

    `create_engine` would have it set up each connection it meets, and question the first.
    """
    parsed = make_url(url)
    kind: Any = parsed.get_dialect()
    dialect = kind(dbapi=kind.import_dbapi())
    pool = NullPool(_being_entered, reset_on_return=None, dialect=dialect)
    return Engine(pool, dialect, parsed, hide_parameters=True)


def _being_entered() -> Any:
    stand_in = _entering.get()
    if stand_in is None:
        raise NotTransactional("the lent connection was lost, and its transaction with it: begin anew")
    return stand_in


@cache
def _psycopg_cursor() -> type[Any]:
    import psycopg
    from psycopg.rows import tuple_row

    class PlainCursor(psycopg.Cursor[Any]):
        adapters = psycopg.adapters

        def __init__(self, lent: psycopg.Connection[Any]) -> None:
            super().__init__(lent, row_factory=tuple_row)

    return PlainCursor


@cache
def _psycopg2_cursor() -> type[Any]:
    from psycopg2 import extensions

    class PlainCursor(extensions.cursor):  # type: ignore[misc]
        # SQLAlchemy empties this list after each statement: the shop's own is for the shop.
        connection = SimpleNamespace(notices=[])

        def __init__(self, lent: Any) -> None:
            super().__init__(lent)
            extensions.register_type(extensions.JSON, self)

    return PlainCursor
