"""The process's side: it delivers what is in quarantine, one message at a time, as an engine would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from config import Configuration
from worker.attempting import Attempter
from worker.deliveries import Claim, Outcome
from worker.holding import RENEWED_EVERY_SECONDS, Holding
from worker.looking import Look, Looker
from worker.ports import Announce, Step
from worker.recorder import Recorder
from worker.store.causes import AlertTimes
from worker.store.transactions import Store
from worker.transport import Transport

from .telling import LEFT, TAKEN, Told

LOOK_SECONDS = 0.1
LINGER_SECONDS = 2.0
"""How long it stays when there is nothing to send: to start another takes about as long."""

T = TypeVar("T")


class OneByOne:
    """Delivers what is in quarantine until there is nothing to send.

    Args:
        store: its own.
        configuration: destinations and settings.
        transport: sends requests.
        tell: is told which message is in hand, and the steps of each.
        monotonic: the process's clock.
    """

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        transport: Transport,
        tell: Callable[[Told], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        settings, destinations = configuration.settings, configuration.destinations
        lease = settings.engine.lease
        self._destinations = list(destinations)
        self._drain_seconds = settings.engine.drain.total_seconds()
        self._transport = transport
        self._tell = tell
        self._announce: Announce = lambda *step: tell(Told(*step))
        self._monotonic = monotonic
        self._holding = Holding(store, destinations, lease, _at_once, monotonic)
        self._looker = Looker.by(configuration, store, self._holding.engine, True, monotonic)
        self._attempter = Attempter(configuration, transport, lease, monotonic)
        alert_times = AlertTimes(settings.alerts.grouping, settings.alerts.reminder)
        self._recorder = Recorder(store, configuration, alert_times, self._announce)
        self._served_at: dict[str, float] = {}
        self._ends = float("inf")

    async def run(self) -> None:
        """Deliver until nothing was to be sent for a moment, or until `stop`."""
        async with self._transport:
            idle_since = self._monotonic()
            while self._ends == float("inf") and self._monotonic() < idle_since + LINGER_SECONDS:
                if await self._send_one():
                    idle_since = self._monotonic()
                else:
                    await asyncio.sleep(LOOK_SECONDS)
            with suppress(Exception):  # they lapse by themselves
                await self._holding.give_back()

    def stop(self) -> None:
        """Take no further message; what is being sent may go on for the bound of a drain."""
        self._ends = self._monotonic() + self._drain_seconds

    async def _send_one(self) -> bool:
        """Send a message, if there is one that may be sent; return whether there was."""
        due = self._looker.look(dict.fromkeys(self._destinations, 0)).full
        await self._holding.renew({name: int(name in due) for name in self._destinations})
        for name in sorted(due, key=lambda name: self._served_at.get(name, 0.0)):
            if self._holding.slots[name].free:
                self._served_at[name] = self._monotonic()
                look = self._looker.look({name: 1})
                for claim in look.claims:
                    await self._send(claim, look)
                return bool(look.claims)
        return False

    async def _send(self, claim: Claim, look: Look) -> None:
        self._tell(Told(TAKEN, claim))
        name = claim.destination
        self._holding.slots[name].use()
        probe = self._holding.begins(name)
        self._announce(Step.STARTED, claim, "", 0.0)
        attempt = asyncio.create_task(self._attempter.attempt(claim, look.lease_ends))
        try:
            outcome = replace(await self._held_through(name, attempt), probe=probe)
        finally:
            self._holding.slots[name].free_one()
        self._holding.answered(outcome)
        await self._record(outcome, look.lease_ends)
        self._tell(Told(LEFT, claim))

    async def _held_through(self, name: str, attempt: asyncio.Task[Outcome]) -> Outcome:
        """Hold the slot until the attempt is over, which a stop cuts short at its bound."""
        while not (await asyncio.wait((attempt,), timeout=RENEWED_EVERY_SECONDS))[0]:
            if self._monotonic() >= self._ends:
                attempt.cancel()
            with suppress(Exception):  # should it lapse, another's request is one too many
                await self._holding.renew({each: int(each == name) for each in self._destinations})
        return attempt.result()

    async def _record(self, outcome: Outcome, lease_ends: float) -> None:
        """Write the result; past the lease it is the sweep's."""
        while not self._recorder.record([outcome]) and self._monotonic() < lease_ends:
            await asyncio.sleep(self._recorder.retry_seconds)


async def _at_once(work: Callable[[], T]) -> T:
    return work()
