"""What `borrowed` promises a shop without SQLAlchemy: its own transaction, and its connection as it was."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import psycopg2
import psycopg2.extras
import pytest
from psycopg.rows import dict_row
from psycopg.types.datetime import TimestamptzLoader
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError

from orderflow_outbox import (
    IdempotencyConflict,
    InvalidPayload,
    NewMessage,
    NotTransactional,
    UnsupportedDatabase,
    borrowed,
    enqueue,
    enqueue_many,
)
from orderflow_outbox.tables import message
from tests.databases import on_postgresql, on_sqlite
from tests.documents import order

on_every_driver = pytest.mark.parametrize(
    ("database_url", "driver"),
    [("sqlite", "sqlite3"), ("postgresql", "psycopg"), ("postgresql", "psycopg2")],
    indirect=["database_url"],
)


def opened(driver: str, url: str) -> Any:
    """Return a connection as a shop would open it by that driver."""
    if driver == "sqlite3":
        return sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    return {"psycopg": psycopg, "psycopg2": psycopg2}[driver].connect(url.replace("+psycopg", ""))


@pytest.fixture
def lent(engine: Engine, database_url: str, driver: str) -> Iterator[Any]:
    """A shop's connection with a transaction open."""
    with closing(opened(driver, database_url)) as connection:
        connection.cursor().execute("BEGIN IMMEDIATE" if driver == "sqlite3" else "SELECT 1")
        yield connection


def commit_by_itself(lent: Any) -> None:
    if not isinstance(lent, sqlite3.Connection):  # it does already
        lent.autocommit = True


def put(lent: Any, reference: str = "SO-1") -> None:
    with borrowed(lent) as outbox:
        enqueue(outbox, "order-import", order(reference), channel="web", key=f"order:{reference}")


def stored(engine: Engine) -> list[str]:
    """Return the keys that another connection sees in the outbox."""
    with engine.connect() as connection:
        return [key or "" for key in connection.scalars(select(message.c.key).order_by(message.c.id))]


# The shop's own transaction


@on_every_driver
def test_the_shops_commit_stores_the_message_and_nothing_before_it_does(lent: Any, engine: Engine) -> None:
    put(lent)
    reader = engine.execution_options(outbox_reads_only=True)
    assert stored(reader) == []
    lent.commit()
    assert stored(reader) == ["order:SO-1"]


@on_every_driver
def test_the_shops_rollback_takes_the_message_back(lent: Any, engine: Engine) -> None:
    put(lent)
    lent.rollback()
    assert stored(engine) == []


@on_every_driver
def test_a_savepoint_of_the_shops_takes_back_what_came_after_it(lent: Any, engine: Engine) -> None:
    put(lent, "SO-1")
    lent.cursor().execute("SAVEPOINT payment")
    put(lent, "SO-2")
    lent.cursor().execute("ROLLBACK TO SAVEPOINT payment")
    lent.commit()
    assert stored(engine) == ["order:SO-1"]


@on_every_driver
def test_commit_rollback_and_close_of_the_borrowed_connection_leave_the_transaction_to_the_shop(
    lent: Any, engine: Engine
) -> None:
    with borrowed(lent) as outbox:
        enqueue(outbox, "order-import", order("SO-1"), channel="web", key="order:SO-1")
        outbox.rollback()
        enqueue(outbox, "order-import", order("SO-2"), channel="web", key="order:SO-2")
        outbox.commit()
        outbox.close()
    assert stored(engine.execution_options(outbox_reads_only=True)) == []
    lent.commit()
    assert stored(engine) == ["order:SO-1", "order:SO-2"]


@on_every_driver
def test_many_are_all_stored_or_none_and_the_shop_goes_on(lent: Any, engine: Engine) -> None:
    first = NewMessage("order-import", order("SO-1"), channel="web", key="order:SO-1", idempotency_key="1")
    other = NewMessage("order-import", order("SO-2"), channel="web", key="order:SO-2", idempotency_key="1")
    with borrowed(lent) as outbox:
        with pytest.raises(IdempotencyConflict, match="payload"):
            enqueue_many(outbox, [first, other])
        with pytest.raises(InvalidPayload):
            enqueue(outbox, "order-import", "<imports/>", channel="web")
    put(lent, "SO-3")
    lent.commit()
    assert stored(engine) == ["order:SO-3"]


@on_every_driver
def test_an_error_of_the_shops_own_passes_through(lent: Any, engine: Engine) -> None:
    def shop() -> None:
        with borrowed(lent) as outbox:
            enqueue(outbox, "order-import", order("SO-1"), channel="web", key="order:SO-1")
            raise RuntimeError("out of stock")

    with pytest.raises(RuntimeError, match="out of stock"):
        shop()
    lent.commit()
    assert stored(engine) == ["order:SO-1"]


# Refused where a rollback could not take the message back


@on_every_driver
def test_a_connection_without_a_transaction_is_refused(lent: Any, engine: Engine, driver: str) -> None:
    lent.rollback()
    commit_by_itself(lent)
    with pytest.raises(NotTransactional, match=f"lent {driver} .*BEGIN IMMEDIATE"), borrowed(lent):
        pytest.fail("entered")
    assert stored(engine) == []


@on_every_driver
def test_a_transaction_that_ended_within_the_block_is_missed_at_the_next_statement(
    lent: Any, engine: Engine
) -> None:
    with borrowed(lent) as outbox:
        lent.commit()
        commit_by_itself(lent)
        with pytest.raises(NotTransactional):
            enqueue(outbox, "order-import", order("SO-1"), channel="web")
        with pytest.raises(NotTransactional):
            enqueue_many(outbox, [NewMessage("order-import", order("SO-1"), channel="web")])
    assert stored(engine) == []


@on_postgresql
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_driver_that_begins_transactions_by_itself_need_not_have_begun(lent: Any, engine: Engine) -> None:
    lent.rollback()
    put(lent)
    lent.rollback()
    assert stored(engine) == []


@on_postgresql
@pytest.mark.parametrize("driver", ["psycopg"])
def test_a_transaction_block_on_an_autocommitting_connection_is_a_transaction(
    lent: Any, engine: Engine
) -> None:
    lent.rollback()
    lent.autocommit = True
    with lent.transaction(force_rollback=True):
        put(lent, "SO-1")
    with lent.transaction():
        put(lent, "SO-2")
    assert stored(engine) == ["order:SO-2"]


@pytest.mark.parametrize("given", [None, object(), "sqlite:///shop.db", psycopg.AsyncConnection])
def test_another_kind_of_connection_is_told_which_are_known(given: object) -> None:
    known = r"lend a sqlite3\.Connection or psycopg\.Connection or psycopg2\.extensions\.connection"
    with pytest.raises(UnsupportedDatabase, match=known), borrowed(given):
        pytest.fail("entered")


@on_every_driver
def test_a_lost_connection_is_never_replaced_by_another(lent: Any) -> None:
    with borrowed(lent) as outbox:
        enqueue(outbox, "order-import", order("SO-1"), channel="web")
        lent.close()
        for _ in range(2):
            with pytest.raises(
                (DBAPIError, NotTransactional, sqlite3.ProgrammingError), match=r"closed|lost"
            ):
                enqueue(outbox, "order-import", order("SO-2"), channel="web")
            outbox.rollback()


# The connection as it was


@on_sqlite
@pytest.mark.parametrize("driver", ["sqlite3"])
def test_a_sqlite_connection_keeps_its_functions_rows_and_settings(lent: Any, engine: Engine) -> None:
    def settings() -> tuple[object, ...]:
        pragmas = [lent.execute(f"PRAGMA {name}").fetchone() for name in ("foreign_keys", "synchronous")]
        return (lent.isolation_level, lent.row_factory, lent.in_transaction, lent.total_changes > 0, *pragmas)

    lent.row_factory = lambda cursor, row: {
        column[0]: each for column, each in zip(cursor.description, row, strict=True)
    }
    lent.create_function("regexp", 2, lambda _pattern, _text: 42)
    lent.create_function("floor", 1, lambda _number: 43)
    lent.execute("CREATE TABLE shop_order (number TEXT)")
    lent.execute("INSERT INTO shop_order VALUES ('SO-1')")
    before = settings()
    put(lent)
    assert settings() == before
    assert lent.execute("SELECT 'a' REGEXP 'b' AS r").fetchone()["r"] == 42
    assert lent.execute("SELECT floor(1.5) AS f").fetchone()["f"] == 43
    lent.commit()
    assert stored(engine) == ["order:SO-1"]


@on_sqlite
@pytest.mark.parametrize("driver", ["sqlite3"])
def test_entering_and_leaving_execute_nothing(lent: Any) -> None:
    executed: list[str] = []
    lent.set_trace_callback(executed.append)
    with borrowed(lent):
        pass
    assert executed == []


@on_postgresql
@pytest.mark.parametrize("driver", ["psycopg"])
def test_a_psycopg_connection_keeps_its_rows_notices_and_settings(lent: Any, engine: Engine) -> None:
    notices: list[str | None] = []
    lent.rollback()
    lent.row_factory = dict_row
    lent.cursor_factory = psycopg.ClientCursor
    lent.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    lent.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    lent.execute("CREATE EXTENSION IF NOT EXISTS hstore")
    with borrowed(lent) as outbox:
        enqueue(outbox, "order-import", order("SO-1"), channel="web", key="order:SO-1")
        outbox.execute(text("DO $$ BEGIN RAISE NOTICE 'stock is low'; END $$"))
    assert notices == ["stock is low"]
    assert (lent.row_factory, lent.cursor_factory) == (dict_row, psycopg.ClientCursor)
    assert (lent.autocommit, lent.isolation_level) == (False, psycopg.IsolationLevel.REPEATABLE_READ)
    assert lent.execute("SHOW transaction_isolation").fetchone() == {
        "transaction_isolation": "repeatable read"
    }
    assert lent.execute("SELECT 'a=>1'::hstore AS h").fetchone() == {"h": '"a"=>"1"'}
    lent.commit()
    assert stored(engine) == ["order:SO-1"]


@on_postgresql
@pytest.mark.parametrize("driver", ["psycopg"])
def test_the_shops_converters_change_nothing_in_the_outbox(lent: Any) -> None:
    class Naive(TimestamptzLoader):
        def load(self, data: Any) -> datetime:
            return super().load(data).astimezone(None).replace(tzinfo=None, year=1999)

    lent.adapters.register_loader("timestamptz", Naive)
    lent.adapters.register_loader("json", psycopg.types.string.TextLoader)
    headers = {"X-Shop": "a"}
    with borrowed(lent) as outbox:
        new = enqueue(
            outbox, "order-import", order("SO-1"), channel="web", headers=headers, idempotency_key="1"
        )
        with pytest.raises(IdempotencyConflict) as conflict:
            enqueue(
                outbox, "order-import", order("SO-2"), channel="web", headers=headers, idempotency_key="1"
            )
    assert abs(datetime.now(UTC) - new.created_at) < timedelta(minutes=1)
    assert conflict.value.differs == ("payload",)
    assert lent.execute("SELECT now()").fetchone()[0].year == 1999


@on_postgresql
@pytest.mark.parametrize("driver", ["psycopg2"])
def test_a_psycopg2_connection_keeps_its_rows_notices_and_converters(lent: Any, engine: Engine) -> None:
    lent.cursor_factory = psycopg2.extras.RealDictCursor
    psycopg2.extras.register_default_json(lent, loads=lambda text: text)
    number = uuid.uuid4()
    content: dict[str, Any] = {"channel": "web", "headers": {"X-Shop": "a"}, "idempotency_key": "1"}
    with borrowed(lent) as outbox:
        enqueue(outbox, "order-import", order("SO-1"), key="order:SO-1", **content)
        with pytest.raises(IdempotencyConflict) as conflict:
            enqueue(outbox, "order-import", order("SO-2"), key="order:SO-1", **content)
        outbox.execute(text("DO $$ BEGIN RAISE NOTICE 'stock is low'; END $$"))
    assert conflict.value.differs == ("payload",)
    assert any("stock is low" in notice for notice in lent.notices)
    cursor = lent.cursor()
    cursor.execute(f"SELECT '{number}'::uuid AS number, '[1]'::json AS items")
    assert dict(cursor.fetchone()) == {"number": str(number), "items": "[1]"}
    lent.commit()
    assert stored(engine) == ["order:SO-1"]


@on_every_driver
def test_errors_show_no_payload(lent: Any, caplog: pytest.LogCaptureFixture) -> None:
    lent.cursor().execute("ALTER TABLE outbox_body RENAME TO outbox_body_away")
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Exception, match="outbox_body") as failed:
        put(lent)
    assert "<imports>" not in str(failed.value) + caplog.text


# Several at once


@on_every_driver
def test_one_connection_may_be_borrowed_within_itself(lent: Any, engine: Engine) -> None:
    new = [NewMessage("order-import", order("SO-1"), channel="web", key="inner")]
    with borrowed(lent) as outer, outer.begin_nested():
        with borrowed(lent) as inner:
            enqueue_many(inner, new)
        enqueue(outer, "order-import", order("SO-2"), channel="web", key="outer")
    lent.commit()
    assert stored(engine) == ["inner", "outer"]


@on_postgresql
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_two_connections_borrowed_within_each_other_stay_apart(
    lent: Any, engine: Engine, database_url: str, driver: str
) -> None:
    with closing(opened(driver, database_url)) as other, borrowed(lent) as outer, borrowed(other) as inner:
        enqueue(outer, "order-import", order("SO-1"), channel="web", key="outer")
        enqueue(inner, "order-import", order("SO-2"), channel="web", key="inner")
        other.commit()
        lent.rollback()
    assert stored(engine) == ["inner"]


@on_postgresql
def test_threads_never_get_each_others_connection(engine: Engine, database_url: str) -> None:
    together = threading.Barrier(8)

    def shop(n: int) -> None:
        with closing(opened("psycopg" if n < 4 else "psycopg2", database_url)) as lent:
            for each in range(10):
                together.wait(20)
                put(lent, f"{n}-{each}")
                lent.commit() if n % 2 else lent.rollback()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(shop, range(8)))
    assert sorted(stored(engine)) == [f"order:{n}-{each}" for n in (1, 3, 5, 7) for each in range(10)]


@on_postgresql
def test_tasks_of_one_event_loop_never_get_each_others_connection(engine: Engine, database_url: str) -> None:
    async def shop(n: int) -> None:
        with closing(opened("psycopg", database_url)) as lent:
            await asyncio.sleep(0)
            with borrowed(lent) as outbox:
                await asyncio.sleep(0)
                enqueue(outbox, "order-import", order(f"SO-{n}"), channel="web", key=f"{n}")
                await asyncio.sleep(0)
            lent.commit() if n % 2 else lent.rollback()

    async def shops() -> None:
        await asyncio.gather(*map(shop, range(6)))

    asyncio.run(shops())
    assert sorted(stored(engine)) == ["1", "3", "5"]
