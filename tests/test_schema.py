"""The tables: what the migration makes, whom they let in, and the indexes the hot statements use."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, column, event, inspect, table, text

from orderflow_outbox import UnsupportedSchema, tables
from orderflow_outbox.schema import VERSION_TABLE
from orderflow_outbox.tables import CURRENT_VERSION
from tests.databases import on_postgresql, on_sqlite
from tests.steps import DELIVERED, LEASE, Clock, claim_all, outcome, put, recorder, swept
from worker import schema
from worker.database import connect
from worker.store import standing, text_index
from worker.store.transactions import Store


def plans_of(engine: Engine, act: Callable[[], Any]) -> list[tuple[str, str]]:
    """Return each statement that `act` makes, with SQLite's plan for it."""
    seen: list[tuple[str, Any]] = []

    def note(_c: Connection, _k: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
        seen.append((statement, parameters[0] if many else parameters))

    event.listen(engine, "before_cursor_execute", note)
    act()
    event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        return [
            (
                statement,
                "\n".join(
                    step[3]
                    for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                ),
            )
            for statement, parameters in seen
            if statement.startswith(("SELECT", "UPDATE"))
        ]


def plan_with(plans: list[tuple[str, str]], *words: str) -> str:
    """Return the plan of the one statement that has all these words."""
    (found,) = {plan for statement, plan in plans if all(word in statement for word in words)}
    return found


def set_version(engine: Engine, version: int) -> None:
    with engine.begin() as connection:
        connection.execute(
            table(VERSION_TABLE, column("version_num")).update().values(version_num=f"{version:04}")
        )


def _is_the_librarys(name: str | None, *_: object) -> bool:
    """Tell whether a table or an index is the library's, and not of the service's own index of texts."""
    return not str(name).startswith(text_index.NAME)


def test_the_migration_makes_exactly_the_tables_of_the_library(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"version_table": VERSION_TABLE, "compare_type": True, "include_name": _is_the_librarys},
        )
        assert compare_metadata(context, tables.metadata) == []


def test_the_partial_indexes_have_the_conditions_of_the_library(engine: Engine) -> None:
    # The comparison of columns above does not look at them.
    statements = {
        "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
        "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE tablename LIKE 'outbox_%'",
    }
    kind = engine.dialect.name
    with engine.connect() as connection:
        made = {name: _bare(sql) for name, sql in connection.execute(text(statements[kind]))}
    for each in tables.metadata.tables.values():
        for index in each.indexes:
            condition = index.dialect_options[kind]["where"]
            assert (" where " in made[index.name]) == (condition is not None)
            assert condition is None or made[index.name].endswith(f" where {_bare(str(condition))}")


@on_postgresql
def test_the_library_has_its_messages_vacuumed_as_often_as_the_migration(engine: Engine) -> None:
    options = text("SELECT reloptions FROM pg_class WHERE oid = 'outbox_message'::regclass")
    with engine.begin() as connection:
        migrated = connection.execute(options).scalar_one()
        connection.execute(text("CREATE SCHEMA fresh"))
        connection.execute(text("SET LOCAL search_path TO fresh"))
        tables.metadata.create_all(connection)
        assert sorted(connection.execute(options).scalar_one()) == sorted(migrated)
        connection.rollback()


def _bare(sql: str) -> str:
    """Return `sql` without the brackets and casts that PostgreSQL adds."""
    return re.sub(r"::(text|character varying)|[()]", "", sql.lower())


def test_every_table_is_prefixed_and_so_is_the_version_table(engine: Engine) -> None:
    names = {each for each in inspect(engine).get_table_names() if _is_the_librarys(each)}
    assert {*tables.metadata.tables, VERSION_TABLE} == names
    assert all(name.startswith("outbox_") for name in names)


def test_upgrading_again_changes_nothing(engine: Engine) -> None:
    message_id = put(engine)
    assert schema.upgrade(engine) == CURRENT_VERSION
    assert schema.version_of(engine) == CURRENT_VERSION
    assert claim_all(Store(engine, Clock())).claims[0].id == message_id


def test_a_database_upgraded_to_this_release_is_worked_on(engine: Engine) -> None:
    schema.check(engine)


def test_a_database_without_tables_is_refused(tmp_path: Path) -> None:
    empty = connect(SecretStr(f"sqlite:///{tmp_path}/empty.db"))
    with pytest.raises(UnsupportedSchema, match=r"no outbox tables.*db upgrade"):
        schema.check(empty)
    empty.dispose()


def test_newer_tables_are_refused_with_both_versions_named(engine: Engine) -> None:
    newer = CURRENT_VERSION + 41
    set_version(engine, newer)
    for refusing in (schema.check, schema.upgrade):
        with pytest.raises(UnsupportedSchema) as refused:
            refusing(engine)
        assert f"version {newer}," in str(refused.value)
        assert f"works with version {CURRENT_VERSION}:" in str(refused.value)
        assert "newer release" in str(refused.value)


@on_sqlite
def test_a_claim_reads_only_what_is_pending_and_due_and_the_elders_of_its_key(engine: Engine) -> None:
    store = Store(engine, Clock())
    put(engine, key="order:1")
    plans = plans_of(engine, lambda: claim_all(store))
    candidates = plan_with(plans, "SELECT", "due_at <=", "state = 'pending'")
    assert (
        "outbox_message USING INDEX outbox_message_due (destination=? AND due_at>? AND due_at<?)"
        in candidates
    )
    assert "elder USING INDEX outbox_message_order (destination=? AND key=? AND position<?)" in candidates
    assert "TEMP B-TREE" not in candidates


@on_sqlite
def test_recording_finds_its_rows_by_their_number(engine: Engine) -> None:
    store = Store(engine, Clock())
    put(engine, key="order:1")
    claims = claim_all(store).claims
    record = recorder(store).record
    plans = plans_of(engine, lambda: record([outcome(claims[0], DELIVERED)]))
    assert "USING INTEGER PRIMARY KEY (rowid=?)" in plan_with(plans, "SELECT", "state = 'sending'")
    assert "USING INTEGER PRIMARY KEY (rowid=?)" in plan_with(plans, "UPDATE", "AS settled")


@on_sqlite
def test_the_next_message_of_a_key_is_found_by_the_order_of_the_key(engine: Engine) -> None:
    store = Store(engine, Clock())
    put(engine, key="order:1")
    claims = claim_all(store).claims
    record = recorder(store).record
    plan = plan_with(plans_of(engine, lambda: record([outcome(claims[0], DELIVERED)])), "first.position")
    assert "next USING INDEX outbox_message_order (destination=? AND key=? AND position=?)" in plan
    assert "first USING INDEX outbox_message_order (destination=? AND key=?)" in plan


@on_sqlite
def test_how_things_stand_is_read_from_what_waits_and_from_the_latest_attempts(engine: Engine) -> None:
    def look() -> None:
        with Store(engine, Clock()).reading() as transaction:
            standing.standing(transaction)
            standing.latest_attempts(transaction)

    read = [line for _statement, plan in plans_of(engine, look) for line in plan.split("\n")]
    for line in read:
        assert not line.startswith("SCAN outbox_") or " INDEX " in line, line
    assert any("outbox_attempt_finished (finished_at>?)" in line for line in read)


@on_sqlite
def test_the_sweep_looks_for_expired_leases_only_among_what_is_being_sent(engine: Engine) -> None:
    clock = Clock()
    store = Store(engine, clock)
    put(engine)
    claim_all(store)
    clock.forward(2 * LEASE)
    plans = plans_of(engine, lambda: swept(store))
    looking = [(statement, plan) for statement, plan in plans if "lease_until <" in statement]
    assert len(looking) == 2
    for statement, plan in looking:
        assert "state = 'sending'" in statement
        assert "USING INDEX outbox_message_sending" in plan
