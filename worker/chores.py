"""An engine's chores: sweep, alert, index, purge, watch, replay, keep the quarantine; on time always."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from config import Configuration

from . import purge
from .alerts import AlertSender, Sending
from .indexer import index_some, pause_after
from .pulse import Pulse
from .quarantine import Death, Keeper
from .replays.driving import Driven, drive
from .replays.driving import pause_after as replay_pause_after
from .store.causes import AlertTimes
from .store.transactions import Store
from .sweep import LONGEST_SWEEP_PAUSE_SECONDS, Swept, sweep
from .switch import LoggedSwitch
from .watching import disks_of, pause_between_looks, watch

ALERT_SECONDS = 1.0
SWEEP_SHARE = 0.05
"""The share of time that sweeps may take, and looks for what is wrong."""

T = TypeVar("T")


class Chores:
    """The chores of one engine, each in a task of its own.

    Args:
        store: the engine's own.
        configuration: destinations and settings.
        alert_times: when the alert of a dead letter leaves.
        database: told whether the database answers.
        in_store_thread: runs a sweep where the engine claims and records.
        is_busy: tells whether the engine has messages in hand.
        wake: has the engine look for due messages.
        pulse: the engine's signs of life.
        monotonic: the process's clock.
    """

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        alert_times: AlertTimes,
        database: LoggedSwitch,
        in_store_thread: Callable[[Callable[[], Swept]], Awaitable[Swept]],
        is_busy: Callable[[], bool],
        wake: Callable[[], None],
        pulse: Pulse,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._settings = configuration.settings
        self._sweep = partial(sweep, store, configuration, alert_times)
        self._database = database
        self._in_store_thread = in_store_thread
        self._is_busy = is_busy
        self._wake = wake
        self._pulse = pulse
        self._monotonic = monotonic
        self._watch = partial(watch, store, configuration, alert_times, disks_of)
        self._drive = partial(drive, store, configuration.catalogue)
        self._sweep_now = asyncio.Event()
        self._sender = AlertSender(store, configuration.settings.alerts, monotonic)
        # One for all that needs the database, since each would hold a connection of its own.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox-chores")
        # Another for the hooks, which may hang until their time is up, and need none.
        self._hooks_thread = ThreadPoolExecutor(1, thread_name_prefix="outbox-hooks")
        self._keeper = Keeper(store, configuration, alert_times, pulse, monotonic)
        self._keeper_thread = ThreadPoolExecutor(1, thread_name_prefix="outbox-keeper")
        self._in_quarantine: asyncio.Future[Death | None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin them all."""
        chores = (
            self._keep_sweeping(),
            self._keep_alerting(),
            self._keep_indexing(),
            self._keep_purging(),
            self._keep_watching(),
            self._keep_replaying(),
            self._keep_quarantine(),
        )
        self._tasks = [asyncio.create_task(chore) for chore in chores]

    def stop(self) -> None:
        """Begin nothing more; a batch or an alert that is under way is finished."""
        for task in self._tasks:
            task.cancel()
        self._keeper.stop()
        self._keeper_thread.shutdown(wait=False)
        # Last, since what the hooks were told is recorded by it.
        self._hooks_thread.submit(self._thread.shutdown, wait=False)
        self._hooks_thread.shutdown(wait=False)

    async def ended(self, seconds: float) -> None:
        """Wait until the process of the quarantine has ended, for `seconds` at most; then end it."""
        if self._in_quarantine is not None:
            await asyncio.wait((self._in_quarantine,), timeout=seconds)
            self._keeper.kill()

    def sweep_soon(self) -> None:
        """Sweep now, without waiting for the next round."""
        self._sweep_now.set()

    async def _keep_sweeping(self) -> None:
        while True:
            begun = self._monotonic()
            try:
                result = await self._in_store_thread(self._sweep)
            except Exception as error:
                self._database.off(error)
            else:
                self._pulse.swept()
                if result.rescued or result.unparked:
                    self._wake()
            # With very many waiting, or under an old snapshot, a sweep takes long: then it comes less often.
            pause = min((self._monotonic() - begun) / SWEEP_SHARE, LONGEST_SWEEP_PAUSE_SECONDS)
            await happened(self._sweep_now, max(self._settings.engine.sweep.total_seconds(), pause))
            self._sweep_now.clear()

    async def _keep_alerting(self) -> None:
        while True:
            await asyncio.sleep(ALERT_SECONDS)
            try:
                while sendings := await self._in_thread(self._sender.lease):
                    await self._run_in(self._hooks_thread, partial(self._send, sendings))
            except Exception as error:
                self._database.off(error)

    def _send(self, sendings: Sequence[Sending]) -> None:
        """Tell and record, in the hooks' thread: recorded is what was told, though the engine stops."""
        answers = self._sender.tell(sendings)
        self._thread.submit(self._sender.record, sendings, answers).result()

    async def _keep_indexing(self) -> None:
        while True:
            begun = self._monotonic()
            more = False
            try:
                more = await self._in_thread(partial(index_some, self._store, self._settings.search.texts))
            except Exception as error:
                self._database.off(error)
            took = self._monotonic() - begun
            await asyncio.sleep(pause_after(took, more=more, busy=self._is_busy()))

    async def _keep_purging(self) -> None:
        purger = purge.Purger(self._store, self._settings.retention)
        teller = purge.Teller(self._monotonic)
        while True:
            begun = self._monotonic()
            more = False
            try:
                more = await self._in_thread(purger.purge_some)
            except Exception as error:
                self._database.off(error)
            if not more:
                teller.tell(purger.gone)
                purger.begin_again()
            took = self._monotonic() - begun
            await asyncio.sleep(purge.pause_after(took, more=more, busy=self._is_busy()))

    async def _keep_watching(self) -> None:
        look_at = self._monotonic()
        while True:
            try:
                await self._in_thread(partial(self._pulse.write, self._store))
                if (begun := self._monotonic()) >= look_at:
                    await self._in_thread(self._watch)
                    # Looks may take long and then come less often, signs of life may not.
                    took = self._monotonic() - begun
                    look_at = begun + min(took / SWEEP_SHARE, LONGEST_SWEEP_PAUSE_SECONDS)
            except Exception as error:
                self._database.off(error)
            await asyncio.sleep(pause_between_looks(self._settings))

    async def _keep_replaying(self) -> None:
        while True:
            begun = self._monotonic()
            driven = Driven()
            try:
                driven = await self._in_thread(self._drive)
            except Exception as error:
                self._database.off(error)
            if driven.sent:
                self._wake()
            await asyncio.sleep(replay_pause_after(self._monotonic() - begun, more=driven.more))

    async def _keep_quarantine(self) -> None:
        while True:
            try:
                if await self._in_thread(self._keeper.is_wanted):
                    watching = asyncio.ensure_future(self._run_in(self._keeper_thread, self._keeper.watch))
                    self._in_quarantine = watching
                    death = await asyncio.shield(watching)
                    if death is not None:
                        await self._in_thread(partial(self._keeper.bury_or_retry, death))
            except Exception as error:
                self._database.off(error)
            await asyncio.sleep(self._settings.engine.sweep.total_seconds())

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await self._run_in(self._thread, work)

    @staticmethod
    async def _run_in(thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, work)


async def happened(event: asyncio.Event, seconds: float) -> bool:
    """Wait for `event`, for `seconds` at most; return whether it happened."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
