"""Virtual time, and event loops that live in it: it stands still while anything is ready to run."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

BEGINNING = datetime(2100, 1, 1, 12, tzinfo=UTC)
"""Past every real clock, since a shop's moments are compared with that, too."""
LATE_SECONDS = 0.002
"""So late a timer may be at most, as on a machine that has other things to do."""


class Time:
    """The clock of all loops; whoever runs it takes one step of one loop after the other.

    Args:
        chance: says which of several loops goes first, and how late a timer is.

    Attributes:
        now: seconds since the beginning.
    """

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.now = 0.0
        self._loops: list[Loop] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Loop]] = []
        self._numbers = itertools.count()

    def monotonic(self) -> float:
        """Return what `time.monotonic` would."""
        return self.now

    def date(self) -> datetime:
        """Return the moment by the database's clock, in milliseconds as SQLite has them."""
        return BEGINNING + timedelta(milliseconds=int(self.now * 1000))

    def begin(self, loop: Loop) -> None:
        """Have the steps of a loop taken from now on."""
        self._loops.append(loop)

    def end(self, loop: Loop) -> None:
        """Never take a step of this loop again."""
        self._loops.remove(loop)

    def at(self, handle: asyncio.TimerHandle, loop: Loop) -> None:
        """Have a timer run when it is due, or a little later."""
        due = handle.when() + self.chance.random() * LATE_SECONDS
        heapq.heappush(self._timers, (due, next(self._numbers), handle, loop))

    def run(self, is_over: Callable[[], bool], until: float) -> bool:
        """Go on until something is over, or a moment has come; return whether it is over."""
        while not is_over():
            ready = [loop for loop in self._loops if loop.ready and loop.frozen_until <= self.now]
            if ready:
                self.chance.choice(ready).step()
            elif self.now > until or not self._jump():
                return False
        return True

    def _jump(self) -> bool:
        """Go on to the next timer, or to when a frozen loop thaws; return whether there is either."""
        thaws = min((loop.frozen_until for loop in self._loops if loop.ready), default=math.inf)
        if not self._timers or thaws < self._timers[0][0]:
            if thaws == math.inf:
                return False
            self.now = thaws
            return True
        due, _, timer, loop = heapq.heappop(self._timers)
        if not timer.cancelled() and loop in self._loops:
            self.now = max(self.now, due)
            loop.ready.append(timer)
        return True


class Loop(asyncio.AbstractEventLoop):
    """An event loop in virtual time: what a process has of its own.

    What is ready runs in the order in which it became so, which programs may rely on.

    Attributes:
        ready: what is to run.
        frozen_until: no step is taken before.
        troubles: what was raised, and nobody caught.
        threads: those of its process.
    """

    def __init__(self, clock: Time, before_step: Callable[[], bool] = lambda: True) -> None:
        self._time = clock
        self._before_step = before_step
        self._tasks: list[_Task] = []
        self.ready: deque[asyncio.Handle] = deque()
        self.frozen_until = 0.0
        self.troubles: list[str] = []
        self.threads: list[Any] = []
        clock.begin(self)

    def step(self) -> None:
        """Take a step, unless the process dies before it."""
        if self._before_step():
            self._run(self.ready.popleft())

    def bury(self) -> None:
        """Let what never ran to its end see that it is over, out of everyone's sight."""
        for thread in self.threads:
            thread.bury()
        while unfinished := [task for task in self._tasks if not task.done()]:
            for task in unfinished:
                task.cancel()
            while self.ready:
                self._run(self.ready.popleft())

    def _run(self, handle: asyncio.Handle) -> None:
        if handle.cancelled():
            return
        events._set_running_loop(self)
        try:
            handle._run()
        finally:
            events._set_running_loop(None)

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self._time.now

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._time.at(handle, self)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is left out when its turn comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coroutine: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        task = _Task(len(self._tasks), coroutine, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        return asyncio.wrap_future(executor.submit(function, *args), loop=self)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.troubles.append(f"{context['message']}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return False


class _Task(asyncio.Task[Any]):
    """A task that stands in a set where its number, and not its place in memory, has it stand."""

    def __init__(self, number: int, *args: Any, **kwargs: Any) -> None:
        self._number = number
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number
