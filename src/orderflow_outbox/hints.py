"""After a commit, tell the workers there is something to do.

A hint carries no data and may be lost: a worker looks by itself at least once a second. So a hint
is bounded, its errors are swallowed and counted, and a stuck one holds back those after it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, ExceptionContext, event

from .publishing import CeleryApp, publisher_for

MAX_WAIT_SECONDS = 0.5
MIN_INTERVAL_SECONDS = 0.02
"""A worker that was woken looks once more after that: for what came meanwhile no hint is needed."""

_ENQUEUED = "orderflow_outbox.enqueued"
_COMMITTED = "orderflow_outbox.committed"

log = logging.getLogger(__name__)


def mark_enqueued(connection: Connection) -> None:
    """Remember on the connection that its transaction holds a new message."""
    connection.info[_ENQUEUED] = True


_all: WeakSet[Hints] = WeakSet()


class Hints:
    """Tells the workers, once a commit holds a new message, that there is something to do.

    `hint_after_commit` makes one that follows an engine's commits. A shop whose commits are another
    framework's makes its own, and calls `hint` from what that framework calls after a commit.

    Args:
        to: the shop's Celery application, a broker's address, or a function without arguments. Of the
            first two only the task's name is used, over a connection of its own that gives up soon.

    Attributes:
        sent: hints handed to the broker.
        suppressed: those not sent: another was tried in the last 20 ms or was still under way, or
            100 of them waited in the queue.
        failed: those that the broker did not take.

    Raises:
        InvalidBroker: `to` is none of the three, or an address and Celery is not installed.
    """

    def __init__(self, to: CeleryApp | str | Callable[[], object]) -> None:
        self._publish = publisher_for(to)
        self._committed = f"{_COMMITTED}.{id(self)}"
        self._running = False
        self._last = float("-inf")
        self._begin_anew()
        _all.add(self)
        self.sent = 0
        self.suppressed = 0
        self.failed = 0

    def hint(self) -> None:
        """Send a hint from a thread of its own, and wait for it half a second at most.

        In a thread with a running event loop it returns at once: there nobody may wait.
        """
        with self._lock:
            now = time.monotonic()
            if self._running or now - self._last < MIN_INTERVAL_SECONDS:
                self.suppressed += 1
                return
            self._running = True
            self._last = now
        try:
            thread = threading.Thread(target=self._call, name="orderflow-outbox-hint", daemon=True)
            thread.start()
        except RuntimeError:  # no thread to be had, as at interpreter exit
            self._done("failed")
            return
        if not _in_event_loop():
            thread.join(MAX_WAIT_SECONDS)

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._running = False
        self._last = float("-inf")

    def _call(self) -> None:
        counter = "failed"
        try:
            counter = "suppressed" if self._publish() is False else "sent"
        except Exception as error:
            log.debug("a wake-up hint failed: %s", type(error).__name__)
        finally:
            self._done(counter)

    def _done(self, counter: str) -> None:
        with self._lock:
            self._running = False
            setattr(self, counter, getattr(self, counter) + 1)

    def _on_commit(self, connection: Connection) -> None:
        if connection.info.get(_ENQUEUED, False):
            connection.info[self._committed] = True

    def _on_rollback(self, connection: Connection) -> None:
        if connection.invalidated:  # what was known of it has gone with it, and asking would raise
            return
        connection.info.pop(_ENQUEUED, None)
        connection.info.pop(self._committed, None)

    def _on_error(self, context: ExceptionContext) -> None:
        """Forget a commit that failed: its event came before it was carried out."""
        if context.connection is not None:
            context.connection.info.pop(self._committed, None)

    def _on_begin(self, connection: Connection) -> None:
        connection.info.pop(_ENQUEUED, None)
        if connection.info.pop(self._committed, False):
            self.hint()

    def _on_checkin(self, _dbapi_connection: Any, record: Any) -> None:
        record.info.pop(_ENQUEUED, None)
        if record.info.pop(self._committed, False):
            self.hint()


def hint_after_commit(engine: Engine, to: CeleryApp | str | Callable[[], object]) -> Hints:
    """Have a hint sent after every commit on `engine` that holds a new message.

    SQLAlchemy's own commit event fires before the commit is carried out, so the hint is sent when the
    connection returns to its pool or begins its next transaction.

    Args:
        engine: the shop's engine; of an asynchronous one its `sync_engine`.
        to: the shop's Celery application, a broker's address, or a function without arguments.

    Returns:
        The hints, which count those sent, suppressed and failed.

    Raises:
        InvalidBroker: `to` is none of the three, or an address and Celery is not installed.
    """
    hints = Hints(to)
    event.listen(engine, "commit", hints._on_commit)
    event.listen(engine, "rollback", hints._on_rollback)
    # Ahead of SQLite's BEGIN IMMEDIATE, so that a slow call never holds the write lock.
    event.listen(engine, "begin", hints._on_begin, insert=True)
    event.listen(engine, "handle_error", hints._on_error)
    event.listen(engine, "commit_twophase", lambda connection, *_: hints._on_commit(connection))
    event.listen(engine, "rollback_twophase", lambda connection, *_: hints._on_rollback(connection))
    event.listen(engine, "checkin", hints._on_checkin)
    return hints


def _after_fork() -> None:
    """Forget in a child what its parent had under way: it will never be done there."""
    for hints in _all:
        hints._begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
