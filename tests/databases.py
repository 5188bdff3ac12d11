"""Databases of both kinds for tests: which test runs on which, and how PostgreSQL's are lent out."""

from __future__ import annotations

import itertools

import pytest
from pydantic import SecretStr

from tests.postgres import Postgres
from worker import schema
from worker.database import connect

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

_TEMPLATE = "outbox_template"
_SHAPE = """
    SELECT (SELECT array_agg(relname ORDER BY relname) FROM pg_class
             WHERE relnamespace = 'public'::regnamespace),
           (SELECT count(*) FROM pg_trigger),
           (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace),
           (SELECT version_num FROM outbox_schema_version)
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


class Databases:
    """Lends databases with empty outbox tables: emptied between tests, made anew after a change of shape."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._names = (f"test_{n}" for n in itertools.count(1))
        self._free: list[str] = []
        server.execute(f"CREATE DATABASE {_TEMPLATE}")
        engine = connect(SecretStr(server.url(_TEMPLATE)))
        schema.upgrade(engine)
        engine.dispose()
        self._shape = server.execute(_SHAPE, _TEMPLATE)

    def take(self) -> str:
        """Return the name of a database that nobody uses."""
        if self._free:
            return self._free.pop()
        name = next(self._names)
        self.server.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        return name

    def give_back(self, name: str) -> None:
        """Take a database back, cutting off whoever still uses it."""
        self.server.execute(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
        )
        if self.server.execute(_SHAPE, name) == self._shape:
            self.server.execute(_EMPTY, name)
            self._free.append(name)
        else:
            self.server.execute(f"DROP DATABASE {name} WITH (FORCE)")
