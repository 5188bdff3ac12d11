"""Work that may hang, done aside: nobody waits for it without a bound, not even the end of the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from orderflow_outbox.errors import OutboxError

T = TypeVar("T")


class TooMuchAside(OutboxError):
    """What was begun before has not ended yet."""


class Aside:
    """Does work in threads of its own.

    Args:
        most: so much at once, what hangs included.
    """

    def __init__(self, most: int) -> None:
        self._free = threading.BoundedSemaphore(most)

    def begin(self, work: Callable[[], T]) -> Future[T]:
        """Begin some work and return at once; its end is told by what is returned.

        Raises:
            TooMuchAside: there is too much of it already.
        """
        if not self._free.acquire(blocking=False):
            raise TooMuchAside("the database has not answered yet what it was asked before: try again")
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        try:
            threading.Thread(target=self._do, args=(work, future), name="outbox-aside", daemon=True).start()
        except RuntimeError:
            self._free.release()
            raise TooMuchAside("the system gives no thread for it: try again") from None
        return future

    def _do(self, work: Callable[[], T], future: Future[T]) -> None:
        try:
            try:
                result = work()
            finally:
                self._free.release()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
