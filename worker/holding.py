"""An engine's hold on slots: asked for, renewed, given back, so that all engines together keep the window."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import partial

from config import FETCHED_EVERY, Destination

from .deliveries import Outcome
from .gate import Ask, begun_at, is_good
from .identity import new_engine_name
from .slots import Slots
from .store import shares
from .store.shares import Granted
from .store.transactions import Store

LASTING = timedelta(seconds=5)
"""How long slots are held without being renewed: so long those of a dead engine are missing."""
MARGIN_SECONDS = 0.5
"""So much sooner an engine stops using slots that it could not renew."""
RENEWED_EVERY_SECONDS = 1.0
ASKED_AGAIN_AFTER_SECONDS = FETCHED_EVERY.total_seconds()
"""How soon an engine asks again that has too few or too many, or more in use than it may go on holding."""
RISEN_AFTER_SECONDS = 0.05
"""How soon where the window doubles, and what the engine holds of it has been answered once."""
INFINITY = float("inf")

KEPT_SECONDS = 10.0
"""So long after the last request a slot is kept for the next: to ask for one takes longer than to claim."""

MOST_ANSWERS = 1000
"""So many of the latest good answers are told of when asking."""

InStoreThread = Callable[[Callable[[], dict[str, Granted]]], Awaitable[dict[str, Granted]]]
Recent = deque[tuple[datetime, float]]


class Holding:
    """What one engine may do at every destination; used in the engine's loop.

    Args:
        store: the engine's own.
        destinations: with their limits.
        lease: after which a probe that was not reported on is given up.
        in_store_thread: runs a transaction where the engine claims and records.
        monotonic: the process's clock.

    Attributes:
        engine: the name it holds them by.
        slots: by destination.
    """

    def __init__(
        self,
        store: Store,
        destinations: Mapping[str, Destination],
        lease: timedelta,
        in_store_thread: InStoreThread,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._destinations = destinations
        self._lease = lease
        self._in_store_thread = in_store_thread
        self._monotonic = monotonic
        self._asked_at = dict.fromkeys(destinations, float("-inf"))
        self._used_at = dict.fromkeys(destinations, float("-inf"))
        self._in_vain: set[str] = set()
        self._shut: set[str] = set()
        self._probing: set[str] = set()
        self._rising: set[str] = set()
        self._probes_begun: set[str] = set()
        self._answers: dict[str, Recent] = {name: deque(maxlen=MOST_ANSWERS) for name in destinations}
        self.engine = new_engine_name()
        self.slots = {name: Slots(monotonic) for name in destinations}

    def is_probing(self, destination: str) -> bool:
        """Tell whether a probe is this engine's to make."""
        return destination in self._probing

    def begins(self, destination: str) -> bool:
        """Note that a request is begun; return whether it is a probe."""
        self._used_at[destination] = self._monotonic()
        if destination in self._probing:
            self._probes_begun.add(destination)
        return destination in self._probing

    def shut(self, destination: str) -> None:
        """Begin no request any more before asking again."""
        self._shut.add(destination)
        self.slots[destination].grant(0, float("-inf"))

    def answered(self, outcome: Outcome) -> None:
        """Note how long the destination took for a good answer, for the next time of asking."""
        if is_good(outcome):
            self._answers[outcome.claim.destination].append((begun_at(outcome), outcome.seconds))

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
        asks = {name: self._ask_for(name, number) for name, number in wants.items()}
        self._asked_at.update(dict.fromkeys(wants, begun))
        self._in_vain.update(wants)
        got = await self._in_store_thread(partial(self._take, asks))
        self._in_vain.difference_update(name for name in wants if got[name].slots or not wants[name])
        for name, granted in got.items():
            self._heed(name, granted, begun + LASTING.total_seconds() - MARGIN_SECONDS)

    async def give_back(self) -> None:
        """Give everything back."""
        await self._in_store_thread(self._give_back)

    def seconds_left(self, wanted: Mapping[str, int]) -> float:
        """Return how long it is until slots are to be asked for, renewed or given back."""
        return min(self._seconds_left(name, number) for name, number in self._useful(wanted).items())

    def _useful(self, wanted: Mapping[str, int]) -> dict[str, int]:
        return {name: min(wanted[name], each.window) for name, each in self._destinations.items()}

    def _keeps(self, name: str) -> bool:
        return self._monotonic() < self._used_at[name] + KEPT_SECONDS

    def _seconds_left(self, name: str, wanted: int) -> float:
        slots = self.slots[name]
        enough = max(wanted, 1 if self._keeps(name) and slots.held else 0)
        if not (wanted or slots.held or slots.in_use):
            return INFINITY
        if wanted and not slots.held and name not in self._in_vain | self._shut:
            return 0.0  # a message has come after a pause
        # Whoever holds them all finds out soon whether another has come for some.
        uneasy = (
            enough != slots.held
            or slots.in_use > slots.held
            or slots.held == self._destinations[name].window
            or slots.to_begin is not None
        )
        if not uneasy or name in self._shut:
            pause = RENEWED_EVERY_SECONDS
        elif name in self._rising and wanted > slots.held and len(self._answers[name]) >= slots.held:
            pause = RISEN_AFTER_SECONDS
        else:
            pause = ASKED_AGAIN_AFTER_SECONDS
        return self._asked_at[name] + pause - self._monotonic()

    def _ask_for(self, name: str, wanted: int) -> Ask:
        slots, answers = self.slots[name], tuple(self._answers[name])
        self._answers[name].clear()
        begun = name in self._probes_begun
        return Ask(wanted, slots.in_use, slots.take_back(), begun, answers, self._keeps(name))

    def _heed(self, name: str, granted: Granted, until: float) -> None:
        for names, belongs in (
            (self._shut, granted.is_shut),
            (self._probing, granted.is_probe),
            (self._rising, granted.is_rising),
        ):
            names.discard(name)
            names.update({name} if belongs else ())
        if granted.to_begin or not granted.is_probe:
            self._probes_begun.discard(name)
        self.slots[name].grant(granted.slots, until, granted.to_begin)

    def _take(self, asks: Mapping[str, Ask]) -> dict[str, Granted]:
        got = {}
        for name, ask in asks.items():
            with self._store.writing() as transaction:
                got[name] = shares.take(
                    transaction,
                    name,
                    self._destinations[name],
                    self.engine,
                    ask,
                    lasting=LASTING,
                    lease=self._lease,
                )
        return got

    def _give_back(self) -> dict[str, Granted]:
        with self._store.writing() as transaction:
            shares.give_back_all(transaction, self.engine)
        return {}
