"""An engine's hold on slots: asked for, renewed, given back, so that all engines together keep the window."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial

from config import Destination

from .slots import Slots
from .store import shares
from .store.transactions import Store

LASTING = timedelta(seconds=5)
"""How long slots are held without being renewed: so long those of a dead engine are missing."""
MARGIN_SECONDS = 0.5
"""So much sooner an engine stops using slots that it could not renew."""
RENEWED_EVERY_SECONDS = 1.0
ASKED_AGAIN_AFTER_SECONDS = 0.25
"""How soon an engine asks again that has too few or too many, or more in use than it may go on holding."""
INFINITY = float("inf")

InStoreThread = Callable[[Callable[[], dict[str, int]]], Awaitable[dict[str, int]]]


class Holding:
    """What one engine holds of every destination; used in the engine's loop.

    Args:
        store: the engine's own.
        destinations: with their windows.
        in_store_thread: runs a transaction where the engine claims and records.
        monotonic: the process's clock.

    Attributes:
        slots: by destination.
    """

    def __init__(
        self,
        store: Store,
        destinations: Mapping[str, Destination],
        in_store_thread: InStoreThread,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._engine = uuid.uuid4().hex
        self._windows = {name: each.window for name, each in destinations.items()}
        self._in_store_thread = in_store_thread
        self._monotonic = monotonic
        self._asked_at = dict.fromkeys(destinations, float("-inf"))
        self._in_vain: set[str] = set()
        self.slots = {name: Slots(monotonic) for name in destinations}

    async def renew(self, wanted: Mapping[str, int]) -> None:
        """Ask for slots, renew them or give them back, where it is time to.

        Args:
            wanted: how many there is a use for, by destination.
        """
        useful = self._useful(wanted)
        wants = {name: number for name, number in useful.items() if self._seconds_left(name, number) <= 0}
        if not wants:
            return
        begun = self._monotonic()
        in_use = {name: self.slots[name].in_use for name in wants}
        self._asked_at.update(dict.fromkeys(wants, begun))
        self._in_vain.update(wants)
        got = await self._in_store_thread(partial(self._ask, wants, in_use))
        self._in_vain.difference_update(name for name in wants if got[name] or not wants[name])
        for name, number in got.items():
            self.slots[name].grant(number, begun + LASTING.total_seconds() - MARGIN_SECONDS)

    async def give_back(self) -> None:
        """Give everything back."""
        await self._in_store_thread(self._give_back)

    def seconds_left(self, wanted: Mapping[str, int]) -> float:
        """Return how long it is until slots are to be asked for, renewed or given back."""
        return min(self._seconds_left(name, number) for name, number in self._useful(wanted).items())

    def _useful(self, wanted: Mapping[str, int]) -> dict[str, int]:
        return {name: min(wanted[name], window) for name, window in self._windows.items()}

    def _seconds_left(self, name: str, wanted: int) -> float:
        slots = self.slots[name]
        if not (wanted or slots.held or slots.in_use):
            return INFINITY
        if wanted and not slots.held and name not in self._in_vain:
            return 0.0  # a message has come after a pause
        # Whoever holds them all finds out soon whether another has come for some.
        uneasy = wanted != slots.held or slots.in_use > slots.held or slots.held == self._windows[name]
        pause = ASKED_AGAIN_AFTER_SECONDS if uneasy else RENEWED_EVERY_SECONDS
        return self._asked_at[name] + pause - self._monotonic()

    def _ask(self, wanted: Mapping[str, int], in_use: Mapping[str, int]) -> dict[str, int]:
        got = {}
        for name, number in wanted.items():
            with self._store.writing() as transaction:
                got[name] = shares.take(
                    transaction,
                    name,
                    self._engine,
                    self._windows[name],
                    wanted=number,
                    in_use=in_use[name],
                    lasting=LASTING,
                )
        return got

    def _give_back(self) -> dict[str, int]:
        with self._store.writing() as transaction:
            shares.give_back(transaction, self._engine)
        return {}
