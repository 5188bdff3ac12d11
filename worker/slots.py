"""The slots that an engine holds of one destination: each lets one request be in progress."""

from __future__ import annotations

import time
from collections.abc import Callable


class Slots:
    """A number of slots that changes, for as long as it was granted; used in one event loop.

    A request takes one from its first byte to its reply. Past the time granted none is begun, since another
    engine may have been given the slots; those in progress go on. Where only so many requests may begin, as
    with a rate or for a probe, a slot that comes free is not enough.

    Args:
        monotonic: the process's clock.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._granted = 0
        self._until = float("-inf")
        self._to_begin: int | None = None
        self._in_use = 0

    @property
    def held(self) -> int:
        """How many there are now."""
        return self._granted if self._monotonic() < self._until else 0

    @property
    def in_use(self) -> int:
        return self._in_use

    @property
    def to_begin(self) -> int | None:
        """How many requests may begin; None for any number."""
        return self._to_begin

    @property
    def free(self) -> int:
        """How many requests may begin now."""
        free = max(0, self.held - self._in_use)
        return free if self._to_begin is None else min(free, self._to_begin)

    def grant(self, number: int, until: float, to_begin: int | None = None) -> None:
        """Hold `number` of them from now on, until a moment by the monotonic clock."""
        self._granted, self._until, self._to_begin = number, until, to_begin

    def take_back(self) -> int:
        """Let no more requests begin where their number is limited; return how many could have."""
        unspent, self._to_begin = self._to_begin, None if self._to_begin is None else 0
        return unspent or 0

    def use(self) -> None:
        """Use one that is free, for a request that begins."""
        self._in_use += 1
        if self._to_begin is not None:
            self._to_begin -= 1

    def free_one(self) -> None:
        """Have one free again, of a request that is over."""
        self._in_use -= 1
