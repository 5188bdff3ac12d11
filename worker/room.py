"""How many more messages an engine may claim: those that it is about to send, so that none waits long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from .deliveries import Outcome
from .holding import Holding
from .in_hand import InHand

AHEAD_SECONDS = 0.15
"""What is claimed ahead is sent within this time, going by the latest answers."""
MOST_AHEAD = 250
"""No more than these wait for a slot, or as many as there are slots: a stop gives them back."""
MOST_AHEAD_OF_A_SLOT = 4
"""Nor than so many for each slot: the other engines are to have their share."""
MOST_BYTES_IN_HAND = 64 * 1024 * 1024
"""With so many bytes of documents in hand nothing more is claimed; one claim is less."""
COUNTED_SECONDS = 0.2
REFILLED_FROM = 0.67
"""So large a share of what may wait is claimed, or more: a few take hardly less than many."""


class Pace:
    """How many answers come in a second, by the latest that were counted.

    Args:
        monotonic: the process's clock.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._since = monotonic()
        self._counted = 0
        self._latest = 0.0

    def count(self) -> None:
        """Count an answer."""
        self._counted += 1

    @property
    def per_second(self) -> float:
        now = self._monotonic()
        if (passed := now - self._since) >= COUNTED_SECONDS:
            self._latest, self._since, self._counted = self._counted / passed, now, 0
        return self._latest


class Room:
    """Tells one engine how much of each destination's it may take on.

    Args:
        destinations: by name.
        holding: the slots that the engine holds.
        in_hand: the messages that it has.
        monotonic: the process's clock.
    """

    def __init__(
        self,
        destinations: Iterable[str],
        holding: Holding,
        in_hand: InHand,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._holding = holding
        self._in_hand = in_hand
        self._paces = {name: Pace(monotonic) for name in destinations}

    def answered(self, outcome: Outcome) -> None:
        """Note what came of a message: what was given back unsent makes room for no more of its kind."""
        if outcome.request is not None:
            self._paces[outcome.claim.destination].count()

    def free(self) -> dict[str, int]:
        """Return how many messages each destination may claim, where it is time to claim any."""
        room: dict[str, int] = {}
        if self._in_hand.bytes >= MOST_BYTES_IN_HAND:
            return room
        for name, slots in self._holding.slots.items():
            held = slots.held
            soon = int(self._paces[name].per_second * AHEAD_SECONDS)
            ahead = max(held, min(soon, MOST_AHEAD, MOST_AHEAD_OF_A_SLOT * held))
            free, least = held + ahead - self._in_hand.number(name), max(1, int(ahead * REFILLED_FROM))
            if slots.to_begin is not None:
                free, least = min(free, slots.to_begin - self._in_hand.waiting(name)), 1
            if held and free >= least:
                room[name] = free
        return room
