"""A simulator inside a program, for tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType

from simulator.faults import Fault
from simulator.ledger import Ledger
from simulator.options import Options
from simulator.server import Server


class Simulator:
    """A stand-in for OrderFlow on a port of its own.

    ``async with Simulator(options) as sim:`` serves in the running event loop;
    ``with Simulator.running(options) as sim:`` in a thread with its own loop, for code that blocks.
    Everything but a stop in the running loop may be asked for from any thread.
    """

    def __init__(self, options: Options | None = None) -> None:
        self._server = Server(options or Options())
        self._url = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop_wanted = asyncio.Event()

    @property
    def url(self) -> str:
        """The address of the instance, without a slash at its end: ``http://127.0.0.1:40123/web``."""
        return self._url

    @property
    def ledger(self) -> Ledger:
        """What was received and accepted; still readable after the stop."""
        return self._server.ledger

    def set_faults(self, faults: Iterable[Fault | str]) -> None:
        """Replace the fault plan; an empty one makes everything go right."""
        self._server.set_faults(faults)

    def reset(self) -> None:
        """Empty the ledger and go back to the faults and missing products of the start."""
        self._server.reset()

    def stop(self) -> None:
        """Stop listening and drop every connection, as a crash would; a second call does nothing.

        In a thread of its own the simulator is gone when this returns. In the running loop
        nothing is let in any more, and the connections are dropped in the loop's next turns.
        """
        if self._thread is None:
            self._server.stop()
        elif self._thread.is_alive() and self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop_wanted.set)
            self._thread.join()

    async def __aenter__(self) -> Simulator:
        self._url = await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop()

    @classmethod
    @contextmanager
    def running(cls, options: Options | None = None) -> Iterator[Simulator]:
        """A simulator in a thread of its own, stopped at the end of the block."""
        simulator = cls(options)
        simulator._start_thread()
        try:
            yield simulator
        finally:
            simulator.stop()

    def _start_thread(self) -> None:
        ready: Future[None] = Future()
        # A daemon, so that a test that is torn down halfway cannot keep the process alive.
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(ready)), name="simulator", daemon=True
        )
        self._thread.start()
        ready.result()

    async def _serve(self, ready: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            await self.__aenter__()
        except Exception as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        await self._stop_wanted.wait()
        await self._server.stop()
