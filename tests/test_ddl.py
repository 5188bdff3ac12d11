"""The tables made by a shop: from printed SQL, its own metadata or its own migrations."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, text
from sqlalchemy.orm import Session

from orderflow_outbox import UnsupportedDatabase, UnsupportedSchema, ddl, enqueue, metadata
from orderflow_outbox.schema import VERSION_TABLE
from orderflow_outbox.tables import CURRENT_VERSION, schema_version
from tests.documents import order
from tests.statements import statements
from worker import schema
from worker.database import connect
from worker.store import text_index

SHAPE = {
    "sqlite": [
        """SELECT type, name, tbl_name FROM sqlite_master
            WHERE name <> 'sqlite_sequence' AND name NOT LIKE 'sqlite_autoindex%' ORDER BY name""",
        """SELECT m.name, c.name, c.type, c."notnull", c.dflt_value, c.pk
             FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY 1, 2""",
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name",
        """SELECT name, sql LIKE '%AUTOINCREMENT%', sql LIKE '%WITHOUT ROWID%' FROM sqlite_master
            WHERE type = 'table' ORDER BY name""",
        """SELECT m.name, f."from", f."table", f."to", f.on_delete
             FROM sqlite_master m, pragma_foreign_key_list(m.name) f ORDER BY 1, 2""",
        "SELECT version_num FROM outbox_schema_version",
    ],
    "postgresql": [
        """SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default
             FROM information_schema.columns WHERE table_schema = current_schema ORDER BY 1, 2""",
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema ORDER BY 1",
        """SELECT relname, relkind, (SELECT array_agg(o ORDER BY o) FROM unnest(reloptions) o) FROM pg_class
            WHERE relnamespace = current_schema::regnamespace ORDER BY 1""",
        """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = current_schema::regnamespace AND contype <> 'n' ORDER BY 1, 2""",
        """SELECT sequencename, data_type::text, start_value, increment_by, cycle FROM pg_sequences
            WHERE schemaname = current_schema ORDER BY 1""",
        "SELECT version_num FROM outbox_schema_version",
    ],
}


empty_postgresql = pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)


def shape(engine: Engine) -> list[Any]:
    """Return all that there is in a database, as its catalogue tells it, but for the service's own index."""
    with engine.connect() as connection:
        return [
            [
                tuple(" ".join(str(each).split()) for each in row)
                for row in connection.execute(text(statement))
                if not any(str(each).startswith(text_index.NAME) for each in row)
            ]
            for statement in SHAPE[engine.dialect.name]
        ]


def _words(row: Any) -> tuple[str, ...]:
    return tuple(" ".join(str(each).split()) for each in row)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    server = request.getfixturevalue("databases").server
    server.execute("CREATE DATABASE empty")
    yield server.url("empty")
    server.execute("DROP DATABASE empty WITH (FORCE)")


@pytest.fixture
def empty(empty_url: str) -> Iterator[Engine]:
    """A database without tables, as the shop opens it."""
    shop = connect(SecretStr(empty_url))
    yield shop
    shop.dispose()


def is_worked_on(shop: Engine) -> None:
    """Look that the service accepts the tables, has nothing to upgrade, and that the shop can enqueue."""
    schema.check(shop)
    before = shape(shop)
    assert schema.upgrade(shop) == CURRENT_VERSION
    assert shape(shop) == before
    with shop.begin() as connection:
        enqueue(connection, "order-import", order("SO-1"), channel="web", key="order:SO-1")


def run(shop: Engine, script: str) -> None:
    """Run a script of SQL as a database's own client would."""
    with shop.connect() as connection:
        driver: Any = connection.connection.driver_connection
        if shop.dialect.name == "sqlite":
            driver.executescript(script)
        else:
            driver.execute(script)
        driver.commit()


def test_the_printed_statements_make_the_tables_of_the_migration(empty: Engine) -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "orderflow_outbox", "ddl", empty.dialect.name],
        capture_output=True,
        text=True,
        check=True,
    )
    run(empty, printed.stdout)
    printed_shape = shape(empty)
    with empty.begin() as connection:
        metadata.drop_all(connection)
    schema.upgrade(empty)
    assert printed_shape == shape(empty)


@pytest.mark.parametrize("whole", [True, False], ids=["as a script", "one by one"])
def test_the_tables_of_the_statements_are_worked_on(empty: Engine, whole: bool) -> None:
    made = ddl(empty.dialect.name)
    for script in [";\n".join(made)] if whole else made:
        run(empty, script)
    is_worked_on(empty)


def test_another_database_has_no_statements() -> None:
    with pytest.raises(UnsupportedDatabase, match="mysql"):
        ddl("mysql")
    asked = [sys.executable, "-m", "orderflow_outbox", "ddl", "mysql"]
    refused = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "sqlite" in refused.stderr


def merged(in_schema: str | None = None) -> MetaData:
    """Return a shop's metadata with the outbox's in it."""
    shop = MetaData(schema=in_schema)
    Table("orders", shop, Column("id", Integer, primary_key=True))
    for each in metadata.tables.values():
        each.to_metadata(shop)
    return shop


def test_tables_made_from_a_shops_own_metadata_are_worked_on(empty: Engine) -> None:
    tables = merged()
    tables.create_all(empty)
    tables.create_all(empty)
    is_worked_on(empty)
    with empty.connect() as connection:
        assert connection.execute(schema_version.select()).all() == [(f"{CURRENT_VERSION:04}",)]


@empty_postgresql
@pytest.mark.parametrize("in_schema", [None, "shop"], ids=["by search_path", "by name"])
def test_tables_in_a_schema_of_the_shops_choice_are_worked_on(
    empty: Engine, empty_url: str, in_schema: str | None
) -> None:
    run(empty, 'CREATE SCHEMA "shop"; CREATE SCHEMA other')
    shop = connect(SecretStr(f"{empty_url}&options=-csearch_path%3Dshop,public"))
    merged(in_schema).create_all(shop)
    is_worked_on(shop)
    with shop.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM shop.outbox_message")) == 1
    shop.dispose()
    with pytest.raises(UnsupportedSchema, match="no outbox tables"):
        schema.check(empty)


ENVIRONMENT = """
from alembic import context
context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""
REVISION = """
from alembic import op
from orderflow_outbox import ddl
revision = "a1"
down_revision = None
def upgrade():
    op.execute("CREATE TABLE orders (id INTEGER NOT NULL PRIMARY KEY)")
    for statement in ddl(op.get_context().dialect.name):
        op.execute(statement)
"""


def test_a_shops_own_migration_makes_the_tables_and_has_nothing_left_to_generate(
    empty: Engine, tmp_path: Path
) -> None:
    folder = tmp_path / "alembic"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENVIRONMENT)
    (folder / "versions" / "a1.py").write_text(REVISION)
    configuration = Config()
    configuration.set_main_option("script_location", str(folder))
    with empty.begin() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")
    with empty.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, merged()) == []
    is_worked_on(empty)


# A database that the library does not work on


def put(connection: Connection | Session) -> int:
    return enqueue(connection, "order-import", order("SO-1"), channel="web").id


def refused(shop: Engine) -> UnsupportedSchema:
    """Return why a message is refused, in a transaction that must go on as if nothing had been."""
    with shop.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS orders (id INTEGER)"))
        connection.execute(text("INSERT INTO orders VALUES (1)"))
        with pytest.raises(UnsupportedSchema) as error:
            put(connection)
        connection.execute(text("INSERT INTO orders VALUES (2)"))
    with Session(shop) as session, session.begin():
        with pytest.raises(UnsupportedSchema):
            put(session)
        assert session.scalar(text("SELECT count(*) FROM orders")) == 2
        session.execute(text("DELETE FROM orders"))
    assert f"version {CURRENT_VERSION}:" in str(error.value)
    return error.value


def test_a_database_without_tables_is_refused_until_there_are_some(empty: Engine) -> None:
    assert refused(empty).found is None
    assert "no outbox tables" in str(refused(empty))
    schema.upgrade(empty)
    with empty.begin() as connection:
        put(connection)


@pytest.mark.parametrize("version", [0, CURRENT_VERSION + 1])
def test_tables_of_another_release_are_refused_with_both_versions(engine: Engine, version: int) -> None:
    with engine.begin() as connection:
        connection.execute(schema_version.update().values(version_num=f"{version:04}"))
    error = refused(engine)
    assert error.found == version
    assert f"outbox tables of version {version}, " in str(error)
    assert ("newer release" in str(error)) == (version > CURRENT_VERSION)
    with engine.begin() as connection:
        connection.execute(schema_version.update().values(version_num=f"{CURRENT_VERSION:04}"))
        put(connection)


def test_an_empty_version_table_is_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(schema_version.delete())
    assert refused(engine).found is None


def test_the_version_is_asked_for_once(engine: Engine) -> None:
    with statements(engine) as seen:
        for _ in range(3):
            with engine.begin() as connection:
                put(connection)
                put(connection)
    assert len([each for each in seen if VERSION_TABLE in each]) == 1
    one = connect(SecretStr(engine.url.render_as_string(hide_password=False)))
    with statements(one) as seen, one.begin() as connection:
        put(connection)
    assert len([each for each in seen if VERSION_TABLE in each]) == 1, "another engine is another database"
    one.dispose()
