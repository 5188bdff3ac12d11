"""Threads without threads: work that stands still at the places it says, while virtual time goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from greenlet import getcurrent, greenlet

from .clock import Loop

BUSY_SECONDS = 0.0005
"""From one look whether other work has ended to the next."""


class Killed(BaseException):
    """The process is no more: nothing that it still does counts."""


class Thread:
    """Stands in for a ThreadPoolExecutor of one thread.

    Args:
        loop: of the process that it belongs to; it stands still when the process does.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()
        self._job: _Job | None = None
        self._is_shut = False
        loop.threads.append(self)

    @property
    def is_busy(self) -> bool:
        return self._job is not None or bool(self._waiting)

    def submit(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """Have work done once what came before it is."""
        if self._is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        promise = _Promise()

        def do() -> None:
            if not promise.set_running_or_notify_cancel():
                return
            try:
                promise.set_result(work(*args, **kwargs))
            except Killed:
                return
            except BaseException as error:
                promise.set_exception(error)

        self._waiting.append(do)
        self._loop.call_soon(self._go_on)
        return promise

    def shutdown(self, **_: Any) -> None:
        """Take no more; whoever waits for the process to end waits for what is left."""
        self._is_shut = True

    def bury(self) -> None:
        """Let work that stands still see that its process was killed."""
        self._waiting.clear()
        if self._job is not None:
            self._job.throw(Killed)

    def _go_on(self) -> None:
        if self._job is None and self._waiting:
            self._job = _Job(self._waiting.popleft())
            self._resume()

    def _resume(self) -> None:
        job = self._job
        assert job is not None
        seconds = job.switch()
        if job.dead:
            self._job = None
            self._loop.call_soon(self._go_on)
        else:
            self._loop.call_later(seconds, self._resume)


class _Job(greenlet):
    """A piece of work that may stand still."""


class _Promise(Future[Any]):
    def result(self, *_: Any) -> Any:
        while not self.done():
            pause(BUSY_SECONDS)
        return super().result()


def pause(seconds: float) -> None:
    """Let virtual time go on, where work is being done in a thread."""
    job = getcurrent()
    if isinstance(job, _Job):
        job.parent.switch(seconds)
