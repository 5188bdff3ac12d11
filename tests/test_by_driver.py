"""`enqueue` hands its statements to the driver: what a shop expects of SQLAlchemy holds all the same."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, func, select, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from orderflow_outbox import enqueue
from orderflow_outbox.sqlite import prepare
from orderflow_outbox.tables import body, message
from tests.databases import on_postgresql
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
        with engine.connect() as other:
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
