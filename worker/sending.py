"""Sending what an engine has in hand: each message as soon as there is a slot for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

from .attempting import Answered, Attempter
from .deliveries import Claim, Outcome
from .holding import Holding
from .in_hand import InHand, Waiting
from .ports import Announce, Step


class Sending:
    """Makes the attempts of one engine; used in its event loop.

    Args:
        holding: the slots that the engine holds.
        in_hand: the messages that it has.
        attempter: makes one attempt.
        announce: is told of each that begins.
        came_of: is given the outcome of each message that was in hand.
    """

    def __init__(
        self,
        holding: Holding,
        in_hand: InHand,
        attempter: Attempter,
        announce: Announce,
        came_of: Callable[[Outcome], None],
    ) -> None:
        self._holding = holding
        self._in_hand = in_hand
        self._attempter = attempter
        self._announce = announce
        self._came_of = came_of
        self._stopping = False

    def go_on(self) -> None:
        """Begin as many requests as there are slots free and messages that wait for one."""
        for name in self._holding.slots:
            self._go_on_with(name)

    def give_back(self, destinations: Iterable[str]) -> None:
        """Give back unsent what waits for a slot of `destinations`."""
        for claim in self._in_hand.let_go(destinations):
            self._came_of(self._attempter.unsent(claim))

    def stop(self) -> None:
        """Begin no more requests."""
        self._stopping = True

    def _go_on_with(self, destination: str) -> None:
        while (waiting := self._take(destination)) is not None:
            self._in_hand.send(self._send_on(waiting))

    def _take(self, destination: str) -> Waiting | None:
        """Take the message that has waited longest, and a slot; None where one of the two is missing."""
        slots = self._holding.slots[destination]
        if self._stopping or not slots.free:
            return None
        waiting = self._in_hand.next(destination)
        if waiting is not None:
            slots.use()
        return waiting

    async def _send_on(self, waiting: Waiting | None) -> None:
        """Send a message, and with the slot that it leaves the next: a task of its own would begin later."""
        while waiting is not None:
            await self._send(*waiting)
            waiting = self._take(waiting.claim.destination)

    async def _send(self, claim: Claim, lease_ends: float) -> None:
        destination = claim.destination
        try:
            probe = self._holding.begins(destination)
            self._announce(Step.STARTED, claim, "", 0.0)
            answered = await self._attempter.ask(claim, lease_ends)
        finally:
            self._holding.slots[destination].free_one()
            self._in_hand.sent(destination)
        # Where many are answered at once, their slots shall not wait until all are judged.
        asyncio.get_running_loop().call_soon(self._judge, answered, probe)

    def _judge(self, answered: Answered | Outcome, probe: bool) -> None:
        outcome = self._attempter.judge(answered)
        self._came_of(replace(outcome, probe=True) if probe else outcome)
