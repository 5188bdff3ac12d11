"""The process of a quarantine, in the same virtual time as the engine that started it and hears it."""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from collections.abc import Iterator

from sqlalchemy.exc import OperationalError

from worker.quarantine.delivering import OneByOne
from worker.quarantine.telling import Told, line_of
from worker.store.transactions import Store
from worker.transport import Transport

from .process import Fate, Process, Surroundings
from .threads import pause

READ_SECONDS = 0.001
"""From one look for a line to the next."""


class QuarantineProcess(Process):
    """Stands in for the `Popen` that an engine has of it.

    Attributes:
        returncode: how it ended, None before.
    """

    def __init__(self, world: Surroundings, name: str, fate: Fate) -> None:
        self.returncode: int | None = None
        self._lines: deque[str] = deque()
        super().__init__(world, name, fate)

    @property
    def stdout(self) -> Iterator[str]:
        """What it tells, line by line, until it has ended."""
        while self._lines or self.returncode is None:
            if self._lines:
                yield self._lines.popleft()
            else:
                pause(READ_SECONDS)

    def terminate(self) -> None:
        """Have it stop, as by SIGTERM."""
        if self.returncode is None:
            self.stop()

    def __enter__(self) -> QuarantineProcess:
        return self

    def __exit__(self, *_: object) -> None:
        """It has ended by then."""

    def _made(self, store: Store, transport: Transport) -> OneByOne:
        world = self._world
        return OneByOne(store, world.configuration, transport, self._tell, world.time.monotonic)

    def _tell(self, told: Told) -> None:
        self._lines.append(line_of(told))

    def _ended(self, main: asyncio.Task[None]) -> None:
        error = None if main.cancelled() or self.was_killed else main.exception()
        self.returncode = self.returncode or (0 if error is None else 1)
        super()._ended(main)
        if isinstance(error, OperationalError):
            self.broke = None

    def _leave(self) -> None:
        if self.was_killed:
            self.returncode = -signal.SIGKILL
        super()._leave()
