"""The world of one story: everything in it goes by one seed."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from config import Configuration
from tests.proof.checker import Evidence, evidence, unfinished, violations
from worker.hooks.running import Job

from .checks import WATCHED, Change, Told, unfair_deaths, unheard, unsaid_doubts, wrong_ways
from .clock import Loop, Time
from .database import JOURNAL, Database
from .people import Operator, Shop
from .process import Fate, Process
from .quarantine import QuarantineProcess
from .receiver import Network, Receiver
from .threads import Thread, pause

LONGEST_LIFE_STEPS = 4000
LONGEST_STORY_SECONDS = 8.0
CALM_SECONDS = 240.0
"""Everything has come to its end within this time, once nothing goes wrong any more."""
LOOK_SECONDS = 1.0
LAST_LINES = 80


class World:
    """A shop, a receiver, an operator, and engines that die.

    Args:
        seed: says all that happens.
        database: empty.
        configuration: what every engine goes by.

    Attributes:
        trace: what happened, in order.
        violations: the promises that were broken on the way.
        is_calm: whether nothing goes wrong any more.
        is_over: whether nobody looks any more.
        kills: how many processes were killed.
        quarantines: how many processes of a quarantine there were.
    """

    def __init__(self, seed: int, database: Database, configuration: Configuration) -> None:
        self.seed = seed
        self.chance = Random(seed)
        self.time = Time(self.chance)
        self.loop = Loop(self.time)
        self.database = database
        self.configuration = configuration
        self._opened = database.open(self.time, "outside")
        self.outside = self._opened.engine
        self.trace: list[str] = []
        self.violations: list[str] = []
        self.is_calm = False
        self._is_stopping = False
        self.is_over = False
        self._processes: list[Process] = []
        self._quarantines: list[QuarantineProcess] = []
        self._alerts: list[Told] = []
        self._names = 0
        deadline = min(each.attempt_deadline for each in configuration.destinations.values())
        self._receiver = Receiver(self, self.chance.choice((0.5, 0.8, 0.95)), deadline.total_seconds())
        self._shop = Shop(self, self.chance.choice((1, 3, 10)), self.chance.choice((0.0, 0.0, 0.0, 2.0)))
        self._operator = Operator(self)
        self._seconds = self.chance.uniform(2.0, LONGEST_STORY_SECONDS)
        self._trouble = self.chance.choice((0.0, 0.0, 0.02, 0.1))
        self._slow = self.chance.choice((0.0, 0.0, 0.02))
        self._takes_alerts = self.chance.choice((1.0, 0.7))

    @property
    def kills(self) -> int:
        return sum(each.was_killed for each in self._everybody)

    @property
    def quarantines(self) -> int:
        return len(self._quarantines)

    @property
    def _everybody(self) -> list[Process]:
        return [*self._processes, *self._quarantines]

    # What those who live in it call.

    def note(self, what: str) -> None:
        """Write down what happens."""
        self.trace.append(f"{self.time.now:.6f} {what}")

    def broken(self, promise: str) -> None:
        """Write down a promise that was broken."""
        self.note(promise)
        self.violations.append(promise)

    def wake(self, but: Process | None = None) -> None:
        """Have one engine look for due messages, or none where the hint is lost."""
        others = [each for each in self._processes if each is not but and not each.over.is_set()]
        if others and self.chance.random() < 0.8:
            self.loop.call_later(self.chance.random() * 0.01, self.chance.choice(others).wake)

    def backend(self, process: Process) -> Network:
        """Return the way of a process to the receiver."""
        return Network(self, self._receiver, process)

    def tell_all(self, jobs: Sequence[Job], _timeout: timedelta) -> list[str | None]:
        """Stand in for the hooks."""
        pause(self.chance.random() * 0.1)
        answers: list[str | None] = []
        for job in jobs:
            takes_it = self.is_calm or self.chance.random() < self._takes_alerts
            answers.append(None if takes_it else "it hangs")
            if takes_it:
                self.note(f"alert: {job.title}")
                self._alerts.append(Told(self.time.date(), job.document["incident"]))
        return answers

    def engine_name(self) -> str:
        """Return a name that no other engine has."""
        self._names += 1
        return f"engine-{self._names}"

    def begin_quarantine(self) -> QuarantineProcess:
        """Begin the process of a quarantine, beside that of the engine that is at work just now."""
        loop = asyncio.get_running_loop()
        (parent,) = (each for each in self._processes if each.loop is loop)
        fate = Fate(dies_at=self.chance.randint(1, 400) if self.chance.random() < 0.4 else None)
        process = QuarantineProcess(
            self, f"{parent.name}{WATCHED}quarantine-{len(self._quarantines) + 1}", fate
        )
        self._quarantines.append(process)
        self.note(f"{process.name} begins")
        parent.quarantine = process
        return process

    # The story.

    def run(self) -> None:
        """Let it happen, and write down what was broken."""
        with self._in_force():
            engines = self.chance.choice((1, 2, 2, 3))
            for task in (self._tell(), *(self._keep_an_engine() for _ in range(engines))):
                self.loop.create_task(task)
            came_to_its_end = self.time.run(self._has_been_told, self._seconds + CALM_SECONDS)
        self._look_back(came_to_its_end)
        self._clear_away()

    def _has_been_told(self) -> bool:
        return self.is_over or bool(self.violations)

    async def _tell(self) -> None:
        shop = self._shop.sell(self._seconds, self.chance.randint(3, 15))
        operator = self._operator.meddle(self._seconds, self.chance.randint(0, 12))
        await asyncio.gather(shop, operator)
        self.is_calm = True
        self.note("all is calm")
        while not self._is_at_rest():
            self._operator.resume_all()
            await asyncio.sleep(LOOK_SECONDS)
        self._is_stopping = True
        for process in self._processes:
            if not process.over.is_set():
                process.stop()
                await process.over.wait()
        self.is_over = True

    async def _keep_an_engine(self) -> None:
        while not self._is_stopping:
            process = Process(self, f"process-{len(self._processes) + 1}", self._fate())
            self._processes.append(process)
            self.note(f"{process.name} begins")
            await process.over.wait()
            await asyncio.sleep(self.chance.uniform(0.0, 2.0))

    def _fate(self) -> Fate:
        chance = self.chance
        freezes = {chance.randint(1, 5): chance.uniform(0.2, 10) for _ in range(chance.choice((0, 0, 1, 2)))}
        dies = chance.random() < (0.3 if freezes else 0.9)
        return Fate(
            dies_at=int(math.exp(chance.uniform(0, math.log(LONGEST_LIFE_STEPS)))) if dies else None,
            freezes=freezes,
            stops_with=chance.randint(1, 6) if chance.random() < 0.3 else None,
            trouble=self._trouble,
            slow=self._slow,
        )

    def _is_at_rest(self) -> bool:
        seen = self._seen()
        return not [*unfinished(seen), *unheard(seen, self._alerts)]

    def _seen(self) -> Evidence:
        return evidence(self.outside, self._shop.book, self._receiver.book)

    def _look_back(self, came_to_its_end: bool) -> None:
        with self.outside.connect() as connection:
            journal = [Change(*row) for row in connection.exec_driver_sql(JOURNAL)]
        seen = self._seen()
        self.trace += [str(change) for change in journal]
        self.violations += violations(seen, at_rest=True)
        self.violations += wrong_ways(journal)
        self.violations += unsaid_doubts(seen, self._shop.references, self._receiver.taken_in)
        self.violations += unheard(seen, self._alerts)
        self.violations += unfair_deaths(seen)
        self.violations += [f"{each.name} broke: {each.broke}" for each in self._everybody if each.broke]
        for loop in (self.loop, *(each.loop for each in self._everybody)):
            self.violations += [f"nobody caught: {trouble}" for trouble in loop.troubles]
        if not came_to_its_end:
            self.violations.append("it does not come to an end")

    def _clear_away(self) -> None:
        self.is_over = True
        for process in self._everybody:
            process.bury()
        self.loop.bury()
        self.database.close(self._opened)

    def told(self) -> str:
        """Return what to read where a promise was broken."""
        end = [line for line in self.trace if not line.startswith("Change(")][-LAST_LINES:]
        return "\n".join([f"seed {self.seed}", *end, *self.violations])

    @contextmanager
    def _in_force(self) -> Iterator[None]:
        """Put the world in the place of what a process has beside its clock and its store."""
        stand_ins = {
            "worker.engine.ThreadPoolExecutor": _thread,
            "worker.chores.ThreadPoolExecutor": _thread,
            "worker.holding.new_engine_name": self.engine_name,
            "worker.alerts.tell_all": self.tell_all,
            "worker.quarantine.keeping.Keeper._started": lambda _keeper: self.begin_quarantine(),
            "worker.alerts.time": SimpleNamespace(sleep=pause),
            "orderflow_outbox.storing.on_sqlite.sqlite_now": self.time.date,
        }
        before = random.getstate()
        random.seed(self.chance.random())
        with pytest.MonkeyPatch.context() as patch:
            for name, stand_in in stand_ins.items():
                patch.setattr(name, stand_in)
            yield
        random.setstate(before)


def _thread(_number: int, **_: Any) -> Thread:
    return Thread(asyncio.get_running_loop())  # type: ignore[arg-type]
