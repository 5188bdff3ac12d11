"""A transaction of the store: one connection, one moment."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, func, select, true

from orderflow_outbox.clock import database_now
from orderflow_outbox.sqlite import READS_ONLY

Clock = Callable[[Connection], datetime]

LOCK_SECONDS = 5
"""How long a statement waits for a row that someone else has locked."""
STATEMENT_SECONDS = 30
"""How long a statement may take."""
IDLE_SECONDS = 15
"""How long a transaction may stand still: a frozen process keeps nobody's rows locked for longer."""

PLANNING = {"enable_seqscan": "off", "random_page_cost": "1.1"}
"""An outbox grows and shrinks faster than its statistics: a plan that reads all of it, since it was small
when it was counted, takes longer with every message. And what is due is in memory: it has just come."""

LEGIBLE = {"TimeZone": "UTC", "DateStyle": "ISO"}
"""How the server shall write moments: in the time zone or the style of its defaults, some cannot be read."""

_STEPS_BETWEEN_LOOKS = 50_000
"""Of SQLite's machine: so many take about a millisecond."""
_DEADLINE = "worker.store.deadline"

_CLOCK = select(database_now())
# For the transaction alone, as a pooler between us and the server wants it. SQLite has the busy
# timeout of its connection instead.
_CLOCK_AND_BOUNDS = select(
    database_now(),
    *(
        func.set_config(name, f"{seconds}s", true())
        for name, seconds in (
            ("lock_timeout", LOCK_SECONDS),
            ("statement_timeout", STATEMENT_SECONDS),
            ("idle_in_transaction_session_timeout", IDLE_SECONDS),
        )
    ),
    *(func.set_config(name, value, true()) for name, value in (PLANNING | LEGIBLE).items()),
)


def database_clock(connection: Connection) -> datetime:
    """Return the moment by the database's clock, and bound what the transaction may wait for."""
    opening = _CLOCK_AND_BOUNDS if connection.dialect.name == "postgresql" else _CLOCK
    moment = connection.execute(opening).one()[0]
    assert isinstance(moment, datetime)  # noqa: S101 (its type decorator says so)
    return moment


def bound_idling(connection: Connection, seconds: int) -> None:
    """Have PostgreSQL end this transaction sooner than others, should its process be frozen in it."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            select(func.set_config("idle_in_transaction_session_timeout", f"{seconds}s", true()))
        )


def bound_all(connection: Connection, seconds: int) -> None:
    """Bound the statements of this transaction more tightly: on SQLite all of them together."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.set_config("statement_timeout", f"{seconds}s", true())))
        return
    set_deadline(connection, time.monotonic() + seconds)


def deadline_of(connection: Connection) -> float | None:
    """Return when SQLite interrupts what runs on a connection, by the monotonic clock; None for never."""
    return connection.info.get(_DEADLINE)


def set_deadline(connection: Connection, ends: float | None, steps: int = _STEPS_BETWEEN_LOOKS) -> None:
    """Have SQLite interrupt what runs on a connection from a moment on.

    Args:
        ends: by the monotonic clock; None for never.
        steps: of SQLite's machine between two looks at it.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)  # noqa: S101 (the service opens no other)
    connection.info[_DEADLINE] = ends
    driver.set_progress_handler(None if ends is None else lambda: time.monotonic() >= ends, steps)


def impatient_clock(seconds: int) -> Clock:
    """Return a clock for transactions of which the database may take so long for a statement."""

    def clock(connection: Connection) -> datetime:
        moment = database_clock(connection)
        bound_all(connection, seconds)
        return moment

    return clock


@dataclass(frozen=True, slots=True)
class Transaction:
    """An open transaction and its moment."""

    connection: Connection
    now: datetime


class Store:
    """The tables of the outbox, opened a transaction at a time.

    Args:
        engine: the database.
        clock: gives each transaction its moment; tests pass their own.
    """

    def __init__(self, engine: Engine, clock: Clock = database_clock) -> None:
        self._writers = engine
        self._readers = engine.execution_options(**{READS_ONLY: True})
        self._clock = clock

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Open a transaction that commits at the end of the block, or rolls back on an error."""
        with self._writers.begin() as connection, self._opened(connection) as transaction:
            yield transaction

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Open a transaction that only reads, and never waits for a writer."""
        with self._readers.connect() as connection, self._opened(connection) as transaction:
            yield transaction
            connection.commit()  # a rollback has psycopg forget every statement that it has prepared

    @contextmanager
    def _opened(self, connection: Connection) -> Iterator[Transaction]:
        """Give a transaction its moment, and leave no bound of it to the next one of its connection."""
        try:
            yield Transaction(connection, self._clock(connection))
        finally:
            if not connection.invalidated and deadline_of(connection) is not None:
                set_deadline(connection, None)

    def close(self) -> None:
        """Close every connection."""
        self._writers.dispose()
