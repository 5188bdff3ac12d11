"""Asynchronous shops: `await session.run_sync(enqueue, …)`, by each asynchronous driver."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from orderflow_outbox import (
    IdempotencyConflict,
    InvalidPayload,
    NewMessage,
    NotASession,
    NotTransactional,
    State,
    enqueue,
    enqueue_many,
    hint_after_commit,
    status_of,
)
from orderflow_outbox.sqlite import prepare
from orderflow_outbox.testing import enqueued
from tests.documents import order
from tests.rig import eventually

DRIVERS = [("sqlite", "aiosqlite"), ("postgresql", "asyncpg"), ("postgresql", "psycopg")]
Shop = Callable[[AsyncEngine], Coroutine[Any, Any, Any]]


@pytest.fixture(params=DRIVERS, ids=lambda each: each[1])
def driver(request: pytest.FixtureRequest) -> str:
    name: str = request.param[1]
    return name


@pytest.fixture
def database_url(request: pytest.FixtureRequest, driver: str, tmp_path: Any) -> Any:
    """A database of the kind that the driver speaks to."""
    if driver == "aiosqlite":
        yield f"sqlite:///{tmp_path}/outbox.db"
        return
    databases = request.getfixturevalue("databases")
    name = databases.take()
    yield databases.server.url(name)
    databases.give_back(name)


@asynccontextmanager
async def opened(engine: Engine, driver: str) -> AsyncIterator[AsyncEngine]:
    """Open the same database as an asynchronous shop does."""
    url = make_url(engine.url).set(drivername=f"{engine.dialect.name}+{driver}")
    if driver == "asyncpg":  # it takes the socket's folder, and the user, in its own words
        made = create_async_engine(
            url.set(query={}), connect_args={"host": str(url.query["host"]), "user": url.username}
        )
    else:
        made = create_async_engine(url)
    if driver == "aiosqlite":
        prepare(made.sync_engine)
    yield made
    await made.dispose()


def shopping(engine: Engine, driver: str, shop: Shop) -> Any:
    """Run an asynchronous shop."""

    async def run() -> Any:
        async with opened(engine, driver) as made:
            return await shop(made)

    return asyncio.run(run())


def stored(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return [each.imports[0].external_reference or "" for each in enqueued(connection)]


def test_a_committed_session_stores_the_message_and_a_rolled_back_one_does_not(
    engine: Engine, driver: str
) -> None:
    async def shop(made: AsyncEngine) -> None:
        async with AsyncSession(made) as session, session.begin():
            message = await session.run_sync(
                enqueue, "order-import", order("SO-1"), channel="web", key="order:SO-1", version=7
            )
            assert message.created
        async with AsyncSession(made) as session:
            await session.run_sync(enqueue, "order-import", order("SO-2"), channel="web")
            await session.rollback()

    shopping(engine, driver, shop)
    assert stored(engine) == ["SO-1"]


def test_a_connection_a_savepoint_and_many_at_once_work_the_same(engine: Engine, driver: str) -> None:
    async def shop(made: AsyncEngine) -> None:
        async with made.begin() as connection:
            await connection.run_sync(enqueue, "order-import", order("SO-1"), channel="web")
            async with connection.begin_nested() as savepoint:
                await connection.run_sync(enqueue, "order-import", order("SO-2"), channel="web")
                await savepoint.rollback()
            many = [NewMessage("order-import", order(f"SO-{n}"), channel="web") for n in (3, 4)]
            messages = await connection.run_sync(enqueue_many, many)
            assert messages[0].id < messages[1].id

    shopping(engine, driver, shop)
    assert stored(engine) == ["SO-1", "SO-3", "SO-4"]


def test_a_refusal_leaves_the_transaction_usable(engine: Engine, driver: str) -> None:
    async def shop(made: AsyncEngine) -> None:
        async with AsyncSession(made) as session, session.begin():
            with pytest.raises(InvalidPayload):
                await session.run_sync(enqueue, "order-import", "<imports/>", channel="web")
            await session.run_sync(
                enqueue, "order-import", order("SO-1"), channel="web", idempotency_key="SO-1"
            )
            with pytest.raises(IdempotencyConflict):
                await session.run_sync(
                    enqueue, "order-import", order("SO-2"), channel="web", idempotency_key="SO-1"
                )
            again = await session.run_sync(
                enqueue, "order-import", order("SO-1"), channel="web", idempotency_key="SO-1"
            )
            assert not again.created

    shopping(engine, driver, shop)
    assert stored(engine) == ["SO-1"]


def test_a_status_is_asked_the_same_way(engine: Engine, driver: str) -> None:
    async def shop(made: AsyncEngine) -> State | None:
        async with AsyncSession(made) as session, session.begin():
            await session.run_sync(enqueue, "order-import", order("SO-1"), channel="web", key="order:SO-1")
            found = await session.run_sync(status_of, key="order:SO-1")
            return None if found is None else found.state

    assert shopping(engine, driver, shop) is State.PENDING


def test_an_asynchronous_session_itself_is_told_how_to_be_given(engine: Engine, driver: str) -> None:
    async def shop(made: AsyncEngine) -> None:
        async with AsyncSession(made) as session:
            with pytest.raises(NotASession, match="run_sync"):
                enqueue(session, "order-import", order("SO-1"), channel="web")  # type: ignore[arg-type]

    shopping(engine, driver, shop)


def test_a_connection_that_commits_by_itself_is_refused(engine: Engine, driver: str) -> None:
    async def shop(made: AsyncEngine) -> None:
        async with made.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            with pytest.raises(NotTransactional):
                await connection.run_sync(enqueue, "order-import", order("SO-1"), channel="web")

    if driver == "aiosqlite":
        pytest.skip("a prepared SQLite has no such mode")
    shopping(engine, driver, shop)
    assert stored(engine) == []


def test_the_event_loop_goes_on_while_a_hint_is_sent(engine: Engine, driver: str) -> None:
    go = threading.Event()

    async def shop(made: AsyncEngine) -> float:
        hints = hint_after_commit(made.sync_engine, lambda: go.wait(10))
        async with AsyncSession(made) as session:
            await session.run_sync(enqueue, "order-import", order("SO-1"), channel="web")
            begun = time.monotonic()
            await session.commit()
            await session.close()
            took = time.monotonic() - begun
        go.set()
        await asyncio.to_thread(eventually, lambda: hints.sent == 1, 5)
        return took

    assert shopping(engine, driver, shop) < 0.4, "a hint of a synchronous shop is waited for half a second"
    assert stored(engine) == ["SO-1"]
