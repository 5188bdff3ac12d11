"""The engine: claim, send, judge, record, told on one screen.

One engine lives in a thread with its own event loop. Awake, it claims every due message it has room
for, sends them concurrently, and records the results in groups. Asleep, it waits for a hint, the
next due time, or a second to pass, whichever comes first: it needs no broker to make progress.

The parts (store, transport, rules, retry) do not know each other; the engine knows them all.

Delivery is at least once. A duplicate can arise between the first byte sent and the result
recorded, and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from config import Configuration

from .attempting import Attempter
from .chores import Chores, happened
from .deliveries import Outcome
from .holding import RENEWED_EVERY_SECONDS, Holding
from .in_hand import InHand
from .looking import Look, Looker
from .ports import Announce, Wake
from .pulse import Pulse
from .recorder import Recorder
from .room import Room
from .sending import Sending
from .store.causes import AlertTimes
from .store.transactions import Store
from .switch import LoggedSwitch
from .transport import Transport

LOOK_AGAIN_SECONDS = 0.03
"""A hint may stand for commits of the next 20 ms: a woken engine looks once more after this."""
WAKE_SIBLINGS_SECONDS = 1.0
LAST_RECORD_SECONDS = 5.0
SILENCE_SECONDS = 10.0
"""How long a statement may take before the database is said not to answer."""
GATHERING_SECONDS = 0.025
"""How long results wait for others while requests are in progress: many take hardly longer to write."""
MAX_UNRECORDED = 2000
"""Results waiting to be written; past this nothing more is claimed."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class Engine:
    """Delivers the messages of every configured destination, until told to stop.

    Args:
        store: the engine's own; called from one thread.
        configuration: destinations and settings.
        transport: sends requests.
        wake: asks the other engines to look, when this one found more than it can take.
        announce: tells watchers of each message's steps.
        monotonic: the process's clock.
    """

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        transport: Transport,
        wake: Wake,
        announce: Announce,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = configuration.settings
        self._store = store
        self._destinations = configuration.destinations
        self._settings = settings
        self._transport = transport
        self._wake_siblings = wake
        self._monotonic = monotonic
        alert_times = AlertTimes(settings.alerts.grouping, settings.alerts.reminder)
        self._store_thread = ThreadPoolExecutor(1, thread_name_prefix="outbox-store")
        lease = settings.engine.lease
        self._holding = Holding(store, self._destinations, lease, self._in_store_thread, monotonic)
        pulse = Pulse(announce, self._holding.engine, monotonic)
        self._recorder = Recorder(store, configuration, alert_times, pulse)
        self._looker = Looker.by(configuration, store, self._holding.engine, monotonic=monotonic)
        self._due = frozenset[str]()
        self._in_hand = InHand(self._destinations)
        self._rooms = Room(self._destinations, self._holding, self._in_hand, monotonic)
        attempter = Attempter(configuration, transport, lease, monotonic)
        self._sending = Sending(self._holding, self._in_hand, attempter, announce, self._came_of)
        self._results: list[Outcome] = []
        self._results_ready = asyncio.Event()
        self._stir = asyncio.Event()
        self._woken = False
        self._expecting = False
        self._stopping = False
        self._look_again_at = float("inf")
        self._siblings_woken_at = 0.0
        self._database = LoggedSwitch(log, "the database answers", "the database does not answer")
        self._chores = Chores(
            store,
            configuration,
            alert_times,
            self._database,
            self._in_store_thread,
            self._is_busy,
            self.wake,
            pulse,
            monotonic,
        )

    # What the outside may ask for; call these from the engine's own loop.

    def wake(self) -> None:
        """Look for due messages now."""
        self._look_again_at = self._monotonic() + LOOK_AGAIN_SECONDS
        self._woken = True
        self._stir.set()

    def sweep_soon(self) -> None:
        """Sweep now, without waiting for the next round."""
        self._chores.sweep_soon()

    def stop(self) -> None:
        """Claim nothing more; `run` returns once all is finished or given back."""
        self._stopping = True
        self._sending.stop()
        self._stir.set()

    # The story.

    async def run(self) -> None:
        """Deliver until `stop`, then drain."""
        log.info("the engine looks for messages to %s", ", ".join(sorted(self._destinations)))
        recording = asyncio.create_task(self._keep_recording())
        recording.add_done_callback(lambda _: self.wake())
        try:
            async with self._transport:
                self._chores.start()
                try:
                    await self._deliver(recording)
                finally:
                    self._chores.stop()
                await self._drain()
                await self._until_recorded()
                await self._chores.ended(LAST_RECORD_SECONDS)
                with suppress(Exception):  # they lapse by themselves
                    await self._holding.give_back()
        finally:
            recording.cancel()
            self._store_thread.shutdown(wait=True)
        log.info("the engine ends: it recorded %d results", self._recorder.recorded)

    async def _deliver(self, recording: asyncio.Task[None]) -> None:
        while not self._stopping:
            if recording.done():
                recording.result()  # raises what ended it
            look = await self._claim()
            self._in_hand.take(look.claims, look.lease_ends)
            self._sending.go_on()
            await self._rest(look)

    async def _claim(self) -> Look:
        poll = self._settings.engine.poll.total_seconds()
        if self._monotonic() >= self._look_again_at:
            self._look_again_at = float("inf")
        if self._recorder.is_stuck:
            return Look(wait=poll)
        try:
            await self._holding.renew(self._wanted())
            look = await self._look()
        except Exception as error:
            self._database.off(error)
            return Look(wait=poll)
        self._database.on()
        self._leave_alone(look.shut)
        if look.full:
            self._rouse_siblings()
        return look

    async def _look(self) -> Look:
        room = self._room()
        without_room = frozenset(self._destinations.keys() - room.keys())
        without_slots = {name: 0 for name in without_room if not self._holding.slots[name].held}
        if not room and not without_slots:
            look = Look(wait=self._settings.engine.poll.total_seconds())
        else:
            look = await self._in_store_thread(
                partial(self._looker.look, {**room, **without_slots}, expecting=self._expecting)
            )
        self._due = look.full | (without_room - without_slots.keys() - look.shut)
        return replace(look, full=self._due)

    def _wanted(self) -> dict[str, int]:
        """Return how many slots there is a use for: for what is in hand, and for what is known to be due."""
        return {
            name: self._in_hand.number(name) + (each.window if name in self._due else 0)
            for name, each in self._destinations.items()
        }

    def _leave_alone(self, shut: Collection[str]) -> None:
        """Begin no more requests to destinations that are shut, but for a probe that is this engine's."""
        names = [name for name in shut if not self._holding.is_probing(name)]
        for name in names:
            self._holding.shut(name)
        self._sending.give_back(names)

    def _came_of(self, outcome: Outcome) -> None:
        self._holding.answered(outcome)
        self._rooms.answered(outcome)
        self._results.append(outcome)
        self._results_ready.set()
        self._stir.set()

    async def _keep_recording(self) -> None:
        while True:
            await self._results_ready.wait()
            if self._in_hand.are_sending:
                await asyncio.sleep(GATHERING_SECONDS)
            self._results_ready.clear()
            while self._results:
                group = self._results[: self._recorder.group_size]
                written = await self._in_store_thread(partial(self._recorder.record, group))
                if written:
                    del self._results[: len(group)]
                    self._in_hand.recorded(group)
                    self._leave_alone(self._recorder.shut)
                    self._woken |= self._recorder.unblocked > 0
                    self._stir.set()
                else:
                    await asyncio.sleep(self._recorder.retry_seconds)

    async def _drain(self) -> None:
        """Give back what waits, finish what is in progress within the bound, then cut it short."""
        self._sending.give_back(self._destinations)
        ends = self._monotonic() + self._settings.engine.drain.total_seconds()
        while self._in_hand.are_sending and (left := ends - self._monotonic()) > 0:
            await self._in_hand.finished(min(left, RENEWED_EVERY_SECONDS))
            with suppress(Exception):  # should they lapse, another engine's are too many beside them
                await self._holding.renew({name: self._in_hand.sending(name) for name in self._destinations})
        await self._in_hand.cut_short()

    async def _until_recorded(self) -> None:
        """Wait until every result is written; past the bound the leases run out instead."""
        ends = self._monotonic() + LAST_RECORD_SECONDS
        while self._results:
            self._stir.clear()
            if not await happened(self._stir, ends - self._monotonic()):
                log.error("%d results could not be written before the stop", len(self._results))
                return

    # Waiting.

    async def _rest(self, look: Look) -> None:
        """Sleep until woken, until the next due time, or until there is room for more that is due."""
        now, wait = self._monotonic(), look.wait
        if not self._recorder.is_stuck:
            wait = min(wait, max(0.0, self._holding.seconds_left(self._wanted())))
        ends = min(now + wait, self._look_again_at)
        while not (self._stopping or self._woken or look.full & self._room().keys()):
            self._stir.clear()
            if not await happened(self._stir, ends - self._monotonic()):
                break
        self._expecting = self._woken or bool(look.full)
        self._woken = False

    def _room(self) -> dict[str, int]:
        """Return how many messages each destination may claim now."""
        if self._stopping or len(self._results) >= MAX_UNRECORDED:
            return {}
        return self._rooms.free()

    def _is_busy(self) -> bool:
        return bool(self._results) or self._in_hand.are_waiting or self._in_hand.are_sending

    def _rouse_siblings(self) -> None:
        now = self._monotonic()
        if now - self._siblings_woken_at >= WAKE_SIBLINGS_SECONDS:
            self._siblings_woken_at = now
            self._wake_siblings()

    async def _in_store_thread(self, work: Callable[[], T]) -> T:
        done = asyncio.get_running_loop().run_in_executor(self._store_thread, work)
        # A server that is frozen keeps its connections, and no bound of its own ends a statement then.
        if not (await asyncio.wait((done,), timeout=SILENCE_SECONDS))[0]:
            self._database.off(TimeoutError(f"no word for {SILENCE_SECONDS:g} s"))
        return await done
