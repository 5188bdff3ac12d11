"""A process with an engine in it: it may be killed at any step, frozen for a while, or told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

import httpx

from config import Configuration
from worker.engine import Engine
from worker.ports import announce_nothing
from worker.quarantine.delivering import OneByOne
from worker.store.transactions import Store
from worker.transport import Transport

from .clock import Loop, Time
from .database import Database
from .store import SimulatedStore
from .threads import Killed, pause

START_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Fate:
    """What is to become of a process; its steps and its requests are counted from 1.

    Attributes:
        dies_at: the step that it is killed before; None where it lives.
        freezes: once it has sent so many requests, for how many seconds.
        stops_with: the request with which it is told to stop; None where it is not.
        trouble: the share of its transactions that the database refuses.
        slow: the share of its transactions that wait long.
    """

    dies_at: int | None = None
    freezes: Mapping[int, float] = field(default_factory=dict)
    stops_with: int | None = None
    trouble: float = 0.0
    slow: float = 0.0


class Surroundings(Protocol):
    """What a process needs of its world."""

    chance: Random
    time: Time
    database: Database
    configuration: Configuration
    is_calm: bool

    def note(self, what: str) -> None: ...
    def wake(self, but: Process | None = None) -> None: ...
    def backend(self, process: Process) -> httpx.AsyncBaseTransport: ...


class Quarantine(Protocol):
    """A process that is told to stop when its engine's is no more."""

    def terminate(self) -> None: ...


class Process:
    """One life of an engine.

    Args:
        world: where it lives.
        name: unlike all others.
        fate: what becomes of it, until the world is calm.

    Attributes:
        over: set when it is no more.
        quarantine: the process that its engine watches.
    """

    def __init__(self, world: Surroundings, name: str, fate: Fate) -> None:
        self.name = name
        self.over = asyncio.Event()
        self.broke: str | None = None
        self.was_killed = False
        self.quarantine: Quarantine | None = None
        self.loop = Loop(world.time, self._before_step)
        self._world = world
        self._fate = fate
        self._steps = self._requests = 0
        self._engine: Engine | OneByOne | None = None
        self._opened = world.database.open(world.time, name)
        self._main = self.loop.create_task(self._live())
        self._main.add_done_callback(self._ended)

    def wake(self) -> None:
        """Have its engine look for due messages."""
        if isinstance(self._engine, Engine):
            self.loop.call_soon(self._engine.wake)

    def stop(self) -> None:
        """Have its engine stop, as an operator would."""
        self._world.note(f"{self.name} is told to stop")
        if self._engine is None:
            self.loop.call_later(START_SECONDS, self.stop)
        else:
            self.loop.call_soon(self._engine.stop)

    def sends(self) -> None:
        """Count a request whose first byte has left: with some it freezes, or is told to stop."""
        self._requests += 1
        if self._requests == self._fate.stops_with and not self._world.is_calm:
            self.stop()
        seconds = self._fate.freezes.get(self._requests)
        if seconds is not None and not self._world.is_calm:
            self._world.note(f"{self.name} is frozen for {seconds:.3f} s")
            self.loop.frozen_until = self._world.time.now + seconds

    def die(self, where: str) -> None:
        """Be killed."""
        self._world.note(f"{self.name} is killed: {where}")
        self.was_killed = True
        self._leave()

    def thaw(self, seconds: float) -> None:
        """Have it go on so soon, if it is frozen."""
        if self.loop.frozen_until > self._world.time.now + seconds:
            self._world.note(f"{self.name} is about to thaw")
            self.loop.frozen_until = self._world.time.now + seconds

    def bury(self) -> None:
        """Clear away what is left of it, once nobody looks any more."""
        self.was_killed = True
        self.loop.bury()
        self._world.database.close(self._opened)

    async def _live(self) -> None:
        store = SimulatedStore(self._opened, self._step, self._wait, self._fails)
        transport = Transport(self._world.backend(self))
        await asyncio.sleep(START_SECONDS)
        self._engine = self._made(store, transport)
        await self._engine.run()

    def _made(self, store: Store, transport: Transport) -> Engine | OneByOne:
        return Engine(
            store,
            self._world.configuration,
            transport,
            lambda: self._world.wake(self),
            announce_nothing,
            self._world.time.monotonic,
        )

    def _ended(self, main: asyncio.Task[None]) -> None:
        if self.was_killed:
            return
        if any(thread.is_busy for thread in self.loop.threads):
            self.loop.call_later(START_SECONDS, self._ended, main)
            return
        if main.exception() is not None:
            self.broke = repr(main.exception())
        self._world.note(f"{self.name} has ended")
        self._leave()

    def _leave(self) -> None:
        if self.quarantine is not None:  # the kernel tells it
            self.quarantine.terminate()
        self._world.time.end(self.loop)
        self.over.set()

    def _before_step(self) -> bool:
        """Count a step of the loop; return False where the process dies before it."""
        self._count("a step of its loop")
        return not self.was_killed

    def _step(self, where: str) -> None:
        """Count a step of the store; what a killed process still tries is of no effect."""
        if not self.was_killed:
            self._count(where)
        if self.was_killed:
            raise Killed

    def _count(self, where: str) -> None:
        self._steps += 1
        if self._steps == self._fate.dies_at and not self._world.is_calm:
            self.die(where)

    def _wait(self) -> None:
        chance = self._world.chance
        is_slow = not self._world.is_calm and chance.random() < self._fate.slow
        pause(chance.random() * (4.0 if is_slow else 0.004))

    def _fails(self) -> bool:
        return not self._world.is_calm and self._world.chance.random() < self._fate.trouble
