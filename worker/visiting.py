"""Visits to the database: a store that is opened for one piece of work and closed after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from config import Settings

from . import schema
from .database import connect, trouble_in_one_line
from .store.transactions import Clock, Store, database_clock, impatient_clock


@contextmanager
def store_of(settings: Settings, clock: Clock = database_clock) -> Iterator[Store]:
    """Open the store of the configured database, once its tables are of this release.

    Raises:
        OutboxError: it does not answer, or its tables are of another release.
    """
    engine = connect(settings.database_address(), must_exist=True)
    try:
        schema.check(engine)
        yield Store(engine, clock)
    finally:
        engine.dispose()


@contextmanager
def hurried_store_of(settings: Settings, seconds: int) -> Iterator[Store]:
    """Open the store as `store_of` does, for someone who is waited for.

    Args:
        seconds: how long the database may take for a statement, on SQLite for a transaction.

    Raises:
        OutboxError: whatever is wrong with the database, in one line.
    """
    with trouble_in_one_line(), store_of(settings, impatient_clock(seconds)) as store:
        yield store
