"""Which connections a message can be stored on, so that a rollback takes it back for sure."""

from __future__ import annotations

from typing import TypeAlias

from sqlalchemy import Connection
from sqlalchemy.orm import Session, scoped_session

from . import schema
from .dialects import INSERTS
from .errors import NotASession, NotTransactional, UnsupportedDatabase
from .sqlite import is_prepared

AnySession: TypeAlias = Session | scoped_session[Session] | Connection
"""What a message can be stored by."""


def fit_connection(session: object) -> Connection:
    """Return the connection of a Session, or the Connection given, once it can hold a message.

    Raises:
        NotASession: it is neither.
        UnsupportedDatabase: it leads to neither SQLite nor PostgreSQL.
        NotTransactional: a rollback would not take the message back.
        UnsupportedSchema: the database has no outbox tables, or those of another release.
    """
    connection = connection_of(session)
    # Python's sqlite3 by itself begins no transaction before a savepoint: releasing it would commit.
    if connection.dialect.name == "sqlite" and not is_prepared(connection):
        raise NotTransactional(
            "this SQLite engine begins its transactions too late for a rollback to be sure: call "
            "orderflow_outbox.sqlite.prepare(engine) once, where the engine is made"
        )
    # SQLAlchemy would ask the server, which knows nothing of a driver that commits by itself.
    if connection.dialect.name != "sqlite" and getattr(connection.connection, "autocommit", False):
        raise NotTransactional("the connection is in AUTOCOMMIT: enqueue in a transaction of the shop's")
    schema.check_once(connection)
    return connection


def connection_of(session: object) -> Connection:
    """Return the connection of a Session, or the Connection given.

    Raises:
        NotASession: it is neither.
        UnsupportedDatabase: it leads to neither SQLite nor PostgreSQL.
    """
    if isinstance(session, scoped_session):
        session = session()
    if isinstance(session, Session):
        connection = session.connection()
    elif isinstance(session, Connection):
        connection = session
    else:
        raise NotASession(session)
    if connection.dialect.name not in INSERTS:
        raise UnsupportedDatabase(connection.dialect.name)
    return connection
