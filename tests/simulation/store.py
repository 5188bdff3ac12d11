"""The store of a process that may wait, meet trouble, or be killed at each thing it does."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from sqlalchemy.exc import OperationalError

from worker.store.transactions import Store, Transaction

from .database import Opened


class SimulatedStore(Store):
    """The real store, with a word to the process at each step.

    Args:
        opened: the database, as the process has it open.
        step: is told of each step, and raises what happens there.
        waits: is called before each transaction, for as long as it has to wait.
        fails: tells whether this step fails.
    """

    def __init__(
        self,
        opened: Opened,
        step: Callable[[str], None],
        waits: Callable[[], None],
        fails: Callable[[], bool],
    ) -> None:
        super().__init__(opened.engine)
        self._step = step
        self._waits = waits
        self._fails = fails
        self._is_open = False
        opened.before_statement = partial(step, "before a statement")

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        self._come_by("before it begins to write", "BEGIN IMMEDIATE")
        with self._alone(), super().writing() as transaction:
            yield transaction
            self._may_fail("COMMIT")
            self._step("before it commits")
        self._step("after it has committed")
        self._may_fail("COMMIT, which was carried out")

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        self._come_by("before it begins to read", "BEGIN")
        with self._alone(), super().reading() as transaction:
            yield transaction

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else gets a turn while a transaction is open: SQLite has one writer at a time."""
        before, self._is_open = self._is_open, True
        try:
            yield
        finally:
            self._is_open = before

    def _come_by(self, where: str, statement: str) -> None:
        if not self._is_open:
            self._waits()
        self._step(where)
        self._may_fail(statement)

    def _may_fail(self, statement: str) -> None:
        if self._fails():
            raise OperationalError(statement, None, sqlite3.OperationalError("disk I/O error"))
