"""The thread an engine lives in: started after the fork, woken and stopped from outside."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

import uvloop

from .engine import Engine
from .watchdog import ended_if_hung

START_SECONDS = 3.0
"""Celery gives a child 4 s to get ready."""
RESTART_SECONDS = 1.0

log = logging.getLogger(__name__)


class EngineThread:
    """Runs the engine that `build` makes; it is called in the thread, inside its event loop.

    An engine that breaks is built anew after a second: what it held is taken over when its leases
    run out.

    Args:
        build: makes the engine.
        hung_after: the process is ended once its event loop has stood still for so many seconds, for somebody
            else to start another; None where it is not this thread's alone.
    """

    def __init__(self, build: Callable[[], Engine], hung_after: float | None = None) -> None:
        self._build = build
        self._hung_after = hung_after
        self._thread = threading.Thread(target=self._run, name="outbox-engine", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: Engine | None = None
        self._started = threading.Event()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the thread; returns once the engine runs, within `START_SECONDS`."""
        self._thread.start()
        self._started.wait(START_SECONDS)

    def wake(self) -> None:
        """Have the engine look for due messages."""
        self._call(lambda engine: engine.wake())

    def sweep_soon(self) -> None:
        """Have the engine sweep now."""
        self._call(lambda engine: engine.sweep_soon())

    def stop(self, bound: float) -> bool:
        """Stop the engine and wait for it, `bound` seconds at most; return whether it ended."""
        self._stopping.set()
        self._call(lambda engine: engine.stop())
        self._thread.join(bound)
        return not self._thread.is_alive()

    def _call(self, act: Callable[[Engine], None]) -> None:
        loop, engine = self._loop, self._engine
        if loop is None or engine is None:
            return
        try:
            loop.call_soon_threadsafe(act, engine)
        except RuntimeError:  # the loop closed between the look and the call
            return

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(self._live())
            except Exception:
                log.exception("the engine broke; a new one starts in %g s", RESTART_SECONDS)
                self._stopping.wait(RESTART_SECONDS)

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine = self._build()
        self._started.set()
        if self._stopping.is_set():
            self._engine.stop()
        try:
            with ended_if_hung(self._hung_after):
                await self._engine.run()
        finally:
            self._engine = None
