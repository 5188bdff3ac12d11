"""After a commit, tell the workers there is something to do.

A hint carries no data and may be lost: a worker looks by itself at least once a second. So a hint
is bounded, its errors are swallowed and counted, and a stuck one holds back those after it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, ExceptionContext, event

MAX_WAIT_SECONDS = 0.5
MIN_INTERVAL_SECONDS = 0.01

_ENQUEUED = "orderflow_outbox.enqueued"
_COMMITTED = "orderflow_outbox.committed"

log = logging.getLogger(__name__)


def mark_enqueued(connection: Connection) -> None:
    """Remember on the connection that its transaction holds a new message."""
    connection.info[_ENQUEUED] = True


class Hints:
    """Calls `wake` after each commit that holds a new message; made by `hint_after_commit`.

    Attributes:
        sent: hints whose call returned.
        suppressed: commits covered by a hint of the last 10 ms, or made while a call was stuck.
        failed: calls that raised.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._committed = f"{_COMMITTED}.{id(self)}"
        self._lock = threading.Lock()
        self._running = False
        self._last = float("-inf")
        self.sent = 0
        self.suppressed = 0
        self.failed = 0

    def hint(self) -> None:
        """Call `wake` in a thread of its own and wait for it, for half a second at most."""
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
        thread.join(MAX_WAIT_SECONDS)

    def _call(self) -> None:
        counter = "failed"
        try:
            self._wake()
            counter = "sent"
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


def hint_after_commit(engine: Engine, wake: Callable[[], object]) -> Hints:
    """Have `wake` called after every commit on `engine` that holds a new message.

    SQLAlchemy's own commit event fires before the commit is carried out, so the call is made when
    the connection returns to its pool or begins its next transaction.

    Args:
        engine: the shop's engine.
        wake: takes no argument; what it does is the shop's choice, such as sending the task
            `tasks.deliver`. It runs in a thread, is waited for at most 0.5 s, and may fail.

    Returns:
        The counters of hints sent, suppressed and failed.
    """
    hints = Hints(wake)
    event.listen(engine, "commit", hints._on_commit)
    event.listen(engine, "rollback", hints._on_rollback)
    # Ahead of SQLite's BEGIN IMMEDIATE, so that a slow call never holds the write lock.
    event.listen(engine, "begin", hints._on_begin, insert=True)
    event.listen(engine, "handle_error", hints._on_error)
    event.listen(engine, "checkin", hints._on_checkin)
    return hints
