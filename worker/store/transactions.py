"""A transaction of the store: one connection, one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, select

from orderflow_outbox.clock import database_now
from orderflow_outbox.sqlite import READS_ONLY

Clock = Callable[[Connection], datetime]


def database_clock(connection: Connection) -> datetime:
    """Return the moment by the database's clock."""
    moment = connection.execute(select(database_now())).scalar_one()
    assert isinstance(moment, datetime)  # noqa: S101 (its type decorator says so)
    return moment


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
        with self._writers.begin() as connection:
            yield Transaction(connection, self._clock(connection))

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Open a transaction that only reads, and never waits for a writer."""
        with self._readers.connect() as connection:
            yield Transaction(connection, self._clock(connection))

    def close(self) -> None:
        """Close every connection."""
        self._writers.dispose()
