"""The messages that an engine has claimed and not finished with: waiting for a slot, or being sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable

from .deliveries import Claim, Outcome


class InHand:
    """The tasks of messages in hand, by destination; used in one event loop."""

    def __init__(self, destinations: Iterable[str]) -> None:
        names = list(destinations)
        self._waiting: dict[str, set[asyncio.Task[None]]] = {name: set() for name in names}
        self._sending: dict[str, set[asyncio.Task[None]]] = {name: set() for name in names}
        self._bytes = 0

    def take(self, claim: Claim, deliver: Callable[[], Coroutine[None, None, None]]) -> None:
        """Begin a message's task, which waits until it says that it sends."""
        task, destination = asyncio.create_task(deliver()), claim.destination
        self._bytes += _size(claim)
        for tasks in (self._waiting[destination], self._sending[destination]):
            task.add_done_callback(tasks.discard)
        self._waiting[destination].add(task)

    def begin_sending(self, destination: str) -> None:
        """Count the task that calls as one that sends."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine runs in a task)
        self._waiting[destination].discard(task)
        self._sending[destination].add(task)

    def end_sending(self, destination: str) -> None:
        """Count the task that calls as done with sending."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine runs in a task)
        self._sending[destination].discard(task)

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
        return len(self._sending[destination])

    def number(self, destination: str) -> int:
        """Return how many there are."""
        return self.waiting(destination) + self.sending(destination)

    @property
    def are_waiting(self) -> bool:
        return any(self._waiting.values())

    @property
    def are_sending(self) -> bool:
        return any(self._sending.values())

    async def let_go(self, destinations: Iterable[str]) -> None:
        """Cancel those of `destinations` that wait for a slot: each gives its message back."""
        tasks = [task for name in destinations for task in self._waiting[name]]
        if not tasks:
            return
        await asyncio.sleep(0)  # a task cancelled before its first step could not give anything back
        for name in destinations:
            for task in self._waiting[name]:
                task.cancel()

    async def finished(self, seconds: float) -> None:
        """Wait for those that are being sent, for `seconds` at most."""
        await asyncio.wait([task for tasks in self._sending.values() for task in tasks], timeout=seconds)

    async def cut_short(self) -> None:
        """Cancel what is being sent, and wait until each has said so."""
        tasks = [task for tasks in self._sending.values() for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _size(claim: Claim) -> int:
    return len(claim.payload or b"")
