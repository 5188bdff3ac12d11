"""Hints: best effort after a commit, never before it, and never in the shop's way."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, Engine, create_engine, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from orderflow_outbox import (
    Hints,
    InvalidMessage,
    NewMessage,
    enqueue,
    enqueue_many,
    hint_after_commit,
    hints,
)
from orderflow_outbox.tables import message, metadata
from tests.documents import order
from tests.postgres import FAST, Postgres


class Clock:
    """Time as the hints see it: it passes by `step` seconds between two looks."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 1.0

    def monotonic(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Keep hints of one test from being taken for a crowd, however fast the test runs."""
    clock = Clock()
    monkeypatch.setattr(hints, "time", clock)
    return clock


class Wake:
    """A shop's wake function that counts its calls, and does what a test says."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: BaseException | None = None
        self.go = threading.Event()
        self.go.set()

    def __call__(self) -> None:
        self.calls += 1
        self.go.wait(60)
        if self.error is not None:
            raise self.error


def shop(engine: Engine, reference: str = "SO-1") -> None:
    """Take one order and commit it."""
    with Session(engine) as session, session.begin():
        enqueue(session, "order-import", order(reference), channel="web")


def told(counters: Hints) -> tuple[int, int, int]:
    return counters.sent, counters.suppressed, counters.failed


def finish_calls() -> None:
    """Wait for the calls under way."""
    for thread in threading.enumerate():
        if thread.name == "orderflow-outbox-hint":
            thread.join(10)


# After the commit, and only then


def test_a_commit_with_a_message_is_followed_by_a_hint(engine: Engine) -> None:
    wake = Wake()
    counters = hint_after_commit(engine, wake)
    shop(engine)
    assert wake.calls == 1
    assert told(counters) == (1, 0, 0)


def test_many_messages_of_one_commit_are_followed_by_one_hint(engine: Engine) -> None:
    wake = Wake()
    hint_after_commit(engine, wake)
    with engine.begin() as connection:
        enqueue_many(connection, [NewMessage("order-import", order("SO-1"), channel="web")] * 5)
        enqueue(connection, "order-import", order("SO-2"), channel="web")
    assert wake.calls == 1


def test_the_message_is_there_for_others_when_the_hint_is_given(engine: Engine) -> None:
    seen: list[int | None] = []
    reader = create_engine(engine.url)

    def wake() -> None:
        with reader.connect() as connection:
            seen.append(connection.scalar(select(func.count()).select_from(message)))

    hint_after_commit(engine, wake)
    shop(engine, "SO-1")
    shop(engine, "SO-2")
    reader.dispose()
    assert seen == [1, 2]


def test_a_rolled_back_order_gives_no_hint(engine: Engine) -> None:
    wake = Wake()
    hint_after_commit(engine, wake)
    with Session(engine) as session:
        enqueue(session, "order-import", order("SO-1"), channel="web")
        session.rollback()
    with engine.connect() as connection:
        enqueue(connection, "order-import", order("SO-1"), channel="web")
    assert wake.calls == 0


def test_a_rolled_back_order_gives_no_hint_to_the_next_transaction_of_its_connection(engine: Engine) -> None:
    wake = Wake()
    hint_after_commit(engine, wake)
    with engine.connect() as connection:
        enqueue(connection, "order-import", order("SO-1"), channel="web")
        connection.rollback()
        connection.execute(select(message.c.id))
        connection.commit()
    assert wake.calls == 0


def fail_at_commit(connection: Connection) -> None:
    """Break a rule that the database looks at only when the transaction ends."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        connection.exec_driver_sql(
            "INSERT INTO outbox_attempt (message_id, n, finished_at, verdict, in_doubt)"
            " VALUES (4711, 1, '2026-11-01 09:30:00.000000', 'delivered', 0)"
        )
    else:
        connection.exec_driver_sql("CREATE TEMP TABLE strict (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        connection.exec_driver_sql("INSERT INTO strict VALUES (1), (1)")


def lose(connection: Connection) -> None:
    """Take an order on a connection that is lost before the commit."""
    with connection.begin():
        enqueue(connection, "order-import", order("SO-1"), channel="web")
        connection.invalidate()  # as SQLAlchemy does on such an error
        raise ConnectionResetError


def test_a_shop_whose_connection_is_lost_hears_why_and_goes_on_with_another(engine: Engine) -> None:
    wake = Wake()
    hint_after_commit(engine, wake)
    with engine.connect() as connection:
        with pytest.raises(ConnectionResetError):
            lose(connection)
        with connection.begin():
            enqueue(connection, "order-import", order("SO-2"), channel="web")
    assert wake.calls == 1


def test_a_commit_that_fails_gives_no_hint(engine: Engine) -> None:
    wake = Wake()
    hint_after_commit(engine, wake)
    with pytest.raises(IntegrityError), engine.begin() as connection:  # noqa: PT012 (the end raises)
        enqueue(connection, "order-import", order("SO-1"), channel="web")
        fail_at_commit(connection)
    assert wake.calls == 0
    shop(engine, "SO-2")
    assert wake.calls == 1


def test_a_transaction_without_messages_gives_no_hint(engine: Engine) -> None:
    wake = Wake()
    hint_after_commit(engine, wake)
    with engine.begin() as connection:
        connection.execute(select(message.c.id))
        with pytest.raises(InvalidMessage):
            enqueue(connection, "order-import", "", channel="web")
    assert wake.calls == 0


def test_a_repeat_of_a_stored_message_gives_no_hint(engine: Engine) -> None:
    wake = Wake()
    hint_after_commit(engine, wake)
    for _ in range(2):
        with engine.begin() as connection:
            enqueue(connection, "order-import", order("SO-1"), channel="web", idempotency_key="k")
    assert wake.calls == 1


def test_a_connection_that_goes_on_gives_the_hint_when_it_begins_again(engine: Engine) -> None:
    wake = Wake()
    hint_after_commit(engine, wake)
    with engine.connect() as connection:
        enqueue(connection, "order-import", order("SO-1"), channel="web")
        connection.commit()
        connection.execute(select(message.c.id))
        assert wake.calls == 1
    assert wake.calls == 1


# Never in the way


def test_a_hanging_wake_holds_the_shop_less_than_a_second_and_only_once(engine: Engine) -> None:
    wake = Wake()
    counters = hint_after_commit(engine, wake)
    wake.go.clear()
    try:
        began = time.perf_counter()
        shop(engine)
        first = time.perf_counter()
        for _ in range(5):
            shop(engine)
        rest = time.perf_counter() - first
        assert 0.4 < first - began < 1
        assert rest < 0.4
        assert told(counters) == (0, 5, 0)
    finally:
        wake.go.set()
    finish_calls()
    assert (wake.calls, told(counters)) == (1, (1, 5, 0))
    shop(engine)
    assert (wake.calls, told(counters)) == (2, (2, 5, 0))


@pytest.mark.parametrize("error", [OSError("no broker"), SystemExit(1)])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_wake_that_fails_is_counted_and_the_shop_never_hears_of_it(
    engine: Engine, error: BaseException
) -> None:
    wake = Wake()
    wake.error = error
    counters = hint_after_commit(engine, wake)
    shop(engine)
    shop(engine)
    assert (wake.calls, told(counters)) == (2, (0, 0, 2))
    wake.error = None
    shop(engine)
    assert told(counters) == (1, 0, 2)


def test_a_thread_that_cannot_be_had_is_counted_as_a_failure(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    counters = hint_after_commit(engine, Wake())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        shop(engine)
    assert told(counters) == (0, 0, 1)
    shop(engine)
    assert told(counters) == (1, 0, 1)


# A crowd


def test_hints_within_twenty_milliseconds_are_given_once(engine: Engine, clock: Clock) -> None:
    wake = Wake()
    counters = hint_after_commit(engine, wake)
    clock.step = 0.008
    for _ in range(3):
        shop(engine)
    assert (wake.calls, told(counters)) == (1, (1, 2, 0))
    shop(engine)
    assert (wake.calls, told(counters)) == (2, (2, 2, 0))


def test_every_commit_of_a_crowd_is_counted_once(engine: Engine) -> None:
    wake = Wake()
    counters = hint_after_commit(engine, wake)
    barrier = threading.Barrier(8)

    def crowd(number: int) -> None:
        barrier.wait()
        shop(engine, f"SO-{number}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(crowd, range(8)))
    assert sum(told(counters)) == 8
    assert counters.sent == wake.calls >= 1
    assert counters.failed == 0


def test_two_who_asked_for_hints_both_get_them(engine: Engine) -> None:
    one, other = Wake(), Wake()
    hint_after_commit(engine, one)
    hint_after_commit(engine, other)
    shop(engine)
    shop(engine)
    assert (one.calls, other.calls) == (2, 2)


def test_a_commit_in_two_phases_gives_a_hint_and_its_rollback_none() -> None:
    with Postgres.running({**FAST, "max_prepared_transactions": "2"}) as server:
        engine = create_engine(server.url("postgres"))
        metadata.create_all(engine)
        wake = Wake()
        hint_after_commit(engine, wake)
        for end in ("rollback", "commit"):
            with engine.connect() as connection:
                transaction = connection.begin_twophase()
                enqueue(connection, "order-import", order("SO-1"), channel="web")
                transaction.prepare()
                getattr(transaction, end)()
            assert wake.calls == (end == "commit")
        engine.dispose()
