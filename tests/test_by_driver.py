"""`enqueue` hands its statements to the driver: what a shop expects of SQLAlchemy holds all the same."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, func, select, text
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InvalidRequestError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.orm import Session

from orderflow_outbox import NotTransactional, enqueue, storing
from orderflow_outbox.sqlite import prepare
from orderflow_outbox.tables import body, message
from tests.databases import on_postgresql, on_sqlite
from tests.documents import order
from tests.rig import eventually

SECRET = "SKU-OF-A-SECRET-PRODUCT"
ALARM_SECONDS = 0.2


def shop(connection: Connection | Session, reference: str = "SO-1") -> int:
    return enqueue(
        connection, "order-import", order(reference, sku=SECRET), channel="web", headers={"X-Trace": SECRET}
    ).id


def count(engine: Engine) -> int:
    with engine.connect().execution_options(outbox_reads_only=True) as connection:
        return connection.scalar(select(func.count()).select_from(message)) or 0


def each_by_itself(engine: Engine) -> Connection:
    """A connection that sees what others do meanwhile: a transaction sees one state of the server."""
    return engine.connect().execution_options(isolation_level="AUTOCOMMIT")


def test_the_log_of_statements_shows_no_payload(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "sqlalchemy"):
        echoing = prepare(create_engine(engine.url, echo="debug"))
        with echoing.begin() as connection:
            connection.execute(text("SELECT 'what the shop does'"))
            shop(connection)
        echoing.dispose()
    assert "what the shop does" in caplog.text
    assert SECRET not in caplog.text


def test_a_refusal_of_the_database_is_sqlalchemys_and_shows_no_payload(engine: Engine) -> None:
    with engine.begin() as connection:
        shop(connection)
        body.drop(connection)
    with pytest.raises((ProgrammingError, OperationalError)) as refused, engine.begin() as connection:
        shop(connection, "SO-2")
    assert body.name in str(refused.value)
    assert refused.value.statement
    assert SECRET not in str(refused.value)
    assert count(engine) == 1


def test_a_connection_that_has_begun_nothing_begins_its_transaction(engine: Engine) -> None:
    with engine.begin() as connection:
        shop(connection)  # has the tables' version looked at
    with engine.connect() as connection:
        shop(connection, "SO-2")
        assert connection.in_transaction()
        connection.rollback()
        shop(connection, "SO-3")
        connection.commit()
    assert count(engine) == 2


def test_a_savepoint_takes_its_message_back(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        kept = shop(session)
        with session.begin_nested() as savepoint:
            shop(session, "SO-2")
            savepoint.rollback()
        session.execute(text("SELECT 1"))
    with engine.connect() as connection:
        assert list(connection.scalars(select(message.c.id))) == [kept]


@on_postgresql
def test_a_connection_that_the_server_ended_is_parted_from(engine: Engine) -> None:
    with engine.connect() as connection:
        shop(connection)
        number = connection.scalar(text("SELECT pg_backend_pid()"))
        with each_by_itself(engine) as other:
            other.execute(text("SELECT pg_terminate_backend(:number)"), {"number": number})
            gone = text("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = :number")
            eventually(lambda: other.scalar(gone, {"number": number}))
        with pytest.raises(DBAPIError) as lost:
            shop(connection, "SO-2")
        assert lost.value.connection_invalidated
        assert connection.invalidated
        connection.rollback()
        shop(connection, "SO-3")
        connection.commit()
    assert count(engine) == 1


@on_postgresql
def test_one_error_tells_of_all_connections_that_a_server_has_ended(engine: Engine) -> None:
    pool = create_engine(engine.url, pool_size=3)
    for connection in [pool.connect() for _ in range(3)]:
        shop(connection)
        connection.rollback()
        connection.close()
    with each_by_itself(engine) as other:
        ours = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
        other.execute(text(f"SELECT pg_terminate_backend(pid) {ours}"))
        eventually(lambda: other.scalar(text(f"SELECT count(*) = 0 {ours}")))
    with pytest.raises(DBAPIError), pool.begin() as connection:
        shop(connection)
    for n in range(3):
        with pool.begin() as connection:
            shop(connection, f"SO-{n}")
    pool.dispose()
    assert count(engine) == 3


def test_a_connection_closed_behind_sqlalchemys_back_is_an_error_it_knows(engine: Engine) -> None:
    with engine.begin() as connection:
        shop(connection)
    with engine.connect() as connection:
        connection.begin()
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.close()
        with pytest.raises(DBAPIError):
            shop(connection)
        connection.invalidate()


def test_the_shops_listeners_hear_of_an_error(engine: Engine) -> None:
    heard: list[ExceptionContext] = []
    event.listen(engine, "handle_error", heard.append)
    with engine.begin() as connection:
        shop(connection)
        body.drop(connection)
    with pytest.raises(DBAPIError), engine.begin() as connection:
        shop(connection, "SO-2")
    assert [type(each.original_exception).__name__ for each in heard] != []
    assert all(not each.parameters for each in heard)


def test_a_savepoint_that_has_ended_takes_no_message(engine: Engine) -> None:
    with engine.begin() as connection:
        kept = shop(connection)
        with connection.begin_nested() as savepoint:
            savepoint.rollback()
            with pytest.raises(InvalidRequestError, match="closed transaction"):
                shop(connection, "SO-2")
    with engine.connect() as connection:
        assert list(connection.scalars(select(message.c.id))) == [kept]


@on_sqlite
def test_a_transaction_that_sqlite_has_ended_itself_takes_no_message(engine: Engine) -> None:
    with engine.begin() as connection:
        shop(connection)
        connection.execute(text("CREATE TABLE shop (n INTEGER PRIMARY KEY ON CONFLICT ROLLBACK)"))
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO shop VALUES (1)"))
        with pytest.raises(IntegrityError):
            connection.execute(text("INSERT INTO shop VALUES (1)"))
        with pytest.raises(NotTransactional, match="begin anew"):
            shop(connection, "SO-2")
        with pytest.raises(NotTransactional, match="begin anew"):
            storing.store(connection, [])
    assert count(engine) == 1


@on_sqlite
def test_an_engine_of_which_only_a_copy_was_prepared_is_refused(engine: Engine) -> None:
    unprepared = create_engine(engine.url)
    prepare(unprepared.execution_options(outbox_reads_only=True))
    with (
        pytest.raises(NotTransactional, match="another engine than this one"),
        unprepared.begin() as connection,
    ):
        shop(connection)
    unprepared.dispose()
    assert count(engine) == 0


class Cut(BaseException):
    """Cuts a call short, as a server's time limit for a request does."""


@contextmanager
def cut_after(seconds: float) -> Iterator[None]:
    def cut(*_: Any) -> None:
        raise Cut

    assert threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGALRM, cut)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@on_postgresql
def test_a_connection_is_not_used_again_after_a_call_that_was_cut_short(engine: Engine) -> None:
    with engine.begin() as connection:
        shop(connection)
    with engine.begin() as other, engine.connect() as connection:
        other.execute(text(f"LOCK TABLE {message.name} IN EXCLUSIVE MODE"))
        with pytest.raises(Cut), cut_after(ALARM_SECONDS):
            shop(connection, "SO-2")
        assert connection.invalidated
    assert count(engine) == 1
