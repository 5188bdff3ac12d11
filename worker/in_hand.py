"""The messages that an engine has claimed and not finished with: waiting for a slot, or being sent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable
from typing import NamedTuple

from .deliveries import Claim, Outcome


class Waiting(NamedTuple):
    """A message that waits for a slot.

    Attributes:
        lease_ends: when its lease runs out, by the monotonic clock.
    """

    claim: Claim
    lease_ends: float


class InHand:
    """The messages in hand, by destination; used in one event loop."""

    def __init__(self, destinations: Iterable[str]) -> None:
        names = list(destinations)
        self._waiting: dict[str, deque[Waiting]] = {name: deque() for name in names}
        self._sending = dict.fromkeys(names, 0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._bytes = 0

    def take(self, claims: Iterable[Claim], lease_ends: float) -> None:
        """Have messages wait for a slot, behind those that do already."""
        for claim in claims:
            self._bytes += _size(claim)
            self._waiting[claim.destination].append(Waiting(claim, lease_ends))

    def next(self, destination: str) -> Waiting | None:
        """Take the one that has waited longest; it is being sent until `sent` is called."""
        waiting = self._waiting[destination]
        if not waiting:
            return None
        self._sending[destination] += 1
        return waiting.popleft()

    def let_go(self, destinations: Iterable[str]) -> list[Claim]:
        """Take out all those of `destinations` that wait."""
        let_go = [waiting.claim for name in destinations for waiting in self._waiting[name]]
        for claim in let_go:
            self._waiting[claim.destination].clear()
        return let_go

    def send(self, sending: Coroutine[None, None, None]) -> None:
        """Begin a task that sends what was taken."""
        task = asyncio.create_task(sending)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def sent(self, destination: str) -> None:
        """Count one less as being sent."""
        self._sending[destination] -= 1

    def recorded(self, outcomes: Iterable[Outcome]) -> None:
        """Let go of the documents of messages whose results are written."""
        self._bytes -= sum(_size(each.claim) for each in outcomes)

    @property
    def bytes(self) -> int:
        """How large the documents are, together, of messages whose results are not written yet."""
        return self._bytes

    def waiting(self, destination: str) -> int:
        """Return how many wait for a slot."""
        return len(self._waiting[destination])

    def sending(self, destination: str) -> int:
        """Return how many are being sent."""
        return self._sending[destination]

    def number(self, destination: str) -> int:
        """Return how many there are."""
        return self.waiting(destination) + self.sending(destination)

    @property
    def are_waiting(self) -> bool:
        return any(self._waiting.values())

    @property
    def are_sending(self) -> bool:
        return any(self._sending.values())

    async def finished(self, seconds: float) -> None:
        """Wait for those that are being sent, for `seconds` at most."""
        await asyncio.wait(self._tasks, timeout=seconds)

    async def cut_short(self) -> None:
        """Cancel what is being sent, and wait until each has said so."""
        await asyncio.sleep(0)  # a task cancelled before its first step could not say anything
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _size(claim: Claim) -> int:
    return len(claim.payload or b"")
