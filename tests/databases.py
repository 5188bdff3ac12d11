"""Databases of both kinds for tests: which test runs on which, and how PostgreSQL's are lent out."""

from __future__ import annotations

import itertools
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from tests.postgres import Postgres
from worker import schema
from worker.database import connect

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def _with_the_other_in_soak(first: str, other: str) -> pytest.MarkDecorator:
    both = [first, pytest.param(other, marks=pytest.mark.soak)]
    return pytest.mark.parametrize("database_url", both, indirect=True)


on_sqlite_first = _with_the_other_in_soak("sqlite", "postgresql")
"""For tests that take long, on points in which the two differ little: the other has its turn in the soak."""
on_postgresql_first = _with_the_other_in_soak("postgresql", "sqlite")

_TEMPLATE = "outbox_template"
_SHAPE = """
    SELECT (SELECT array_agg(relname ORDER BY relname) FROM pg_class
             WHERE relnamespace = 'public'::regnamespace),
           (SELECT count(*) FROM pg_trigger),
           (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace),
           (SELECT version_num FROM outbox_schema_version)
"""
_CUT_OFF = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_EMPTY = """
    SET session_replication_role = replica;
    DO $$ DECLARE each text; BEGIN
      FOR each IN SELECT tablename FROM pg_tables
                   WHERE schemaname = 'public' AND tablename <> 'outbox_schema_version' LOOP
        EXECUTE format('DELETE FROM %I', each);
      END LOOP;
      FOR each IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' LOOP
        EXECUTE format('ALTER SEQUENCE %I RESTART', each);
      END LOOP;
    END $$
"""


def make_tables(url: str) -> None:
    """Make the outbox tables in the database at `url`."""
    engine = connect(SecretStr(url))
    schema.upgrade(engine)
    engine.dispose()


def empty_file(folder: Path) -> Path:
    """Make a SQLite file with empty outbox tables, for tests to begin with a copy of."""
    file = folder / "empty.db"
    make_tables(f"sqlite:///{file}")
    return file


class Databases:
    """Lends databases with empty outbox tables: emptied between tests, made anew after a change of shape."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._names = (f"test_{n}" for n in itertools.count(1))
        self._free: list[str] = []
        self._connections: dict[str, psycopg.Connection] = {}  # kept: to make one costs more than to use it
        server.execute(f"CREATE DATABASE {_TEMPLATE}")
        make_tables(server.url(_TEMPLATE))
        self._shape = server.execute(_SHAPE, _TEMPLATE)

    def take(self) -> str:
        """Return the name of a database that nobody uses."""
        if self._free:
            return self._free.pop()
        name = next(self._names)
        self.server.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        self._connections[name] = psycopg.connect(self.server.dsn(name), autocommit=True)
        return name

    def give_back(self, name: str) -> None:
        """Take a database back, cutting off whoever still uses it."""
        connection = self._connections[name]
        try:
            connection.execute(_CUT_OFF)
            is_as_it_was = connection.execute(_SHAPE).fetchall() == self._shape
        except psycopg.OperationalError:  # a test has cut us off
            is_as_it_was = False
        if is_as_it_was:
            connection.execute(_EMPTY)
            self._free.append(name)
        else:
            self._connections.pop(name).close()
            self.server.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        """Close what is kept."""
        for connection in self._connections.values():
            connection.close()
