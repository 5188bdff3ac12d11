"""A receiver and the network before it: delays, losses, and a look at what each request rests on."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from random import Random
from typing import Any, Protocol

import httpx
from sqlalchemy import Engine

from simulator.documents import read_imports
from simulator.pages import Outcome, Reply, import_result

from .clock import Loop, Time

REFUSED_REFERENCE = "BAD"
"""How the reference of an item begins that is never taken in."""
POISON = "POISON"
"""How the reference of an item begins that kills each process which would send it."""
TRAVEL_SECONDS = 0.03
THINKING_SECONDS = 0.1
THAWING_SECONDS = 0.05
_CLAIMED = """
SELECT coalesce(sum(attempts), 0), max(state = 'sending'), max(in_doubt),
       max(CASE state WHEN 'sending' THEN lease_until END)
  FROM outbox_message WHERE idempotency_key = ?"""


class Answer(StrEnum):
    """What becomes of a request."""

    GOOD = "good"
    BUSY = "busy"
    BROKEN = "broken"
    GATEWAY = "gateway"
    TURNED_AWAY = "turned away"
    UNREACHABLE = "unreachable"
    LOST_BEFORE = "lost before it arrives"
    LOST_AFTER = "lost after it arrived"
    CUT = "cut"
    LATE = "late"
    NEVER = "never"


_STATUS = {Answer.BUSY: 503, Answer.BROKEN: 500, Answer.GATEWAY: 502, Answer.TURNED_AWAY: 401}
TAKES_IN = {Answer.GOOD, Answer.LOST_AFTER, Answer.CUT, Answer.LATE}
MAY_TAKE_IN = {Answer.NEVER, Answer.GATEWAY}
FAULTS = {
    Answer.BUSY: 4,
    Answer.BROKEN: 2,
    Answer.GATEWAY: 3,
    Answer.TURNED_AWAY: 0.3,
    Answer.UNREACHABLE: 4,
    Answer.LOST_BEFORE: 3,
    Answer.LOST_AFTER: 4,
    Answer.CUT: 3,
    Answer.LATE: 3,
    Answer.NEVER: 3,
}
"""How often each happens, beside the others."""


class Surroundings(Protocol):
    """What the receiver needs of its world."""

    chance: Random
    time: Time
    loop: Loop
    is_calm: bool
    is_over: bool
    outside: Engine

    def note(self, what: str) -> None: ...
    def broken(self, promise: str) -> None: ...


class Sender(Protocol):
    """What the network needs of a process."""

    name: str

    def sends(self) -> None: ...
    def die(self, where: str) -> None: ...
    def thaw(self, seconds: float) -> None: ...


@dataclass
class Exchange:
    """A request on its way, and what came of it.

    Attributes:
        is_open: whether the sender still waits for an answer, for all that anybody knows.
        was_taken_in: whether the receiver has carried it out.
    """

    process: Sender
    identity: str
    body: bytes
    answer: Answer
    begun: float
    is_open: bool = True
    was_taken_in: bool = False
    reply: Reply = field(default_factory=lambda: Reply(b""))


class Receiver:
    """Takes each item in once, and keeps a book of what it saw.

    Args:
        world: where it is.
        good: the share of requests that go well.
        deadline: seconds that an attempt may take.

    Attributes:
        book: as the checker of the proof reads it.
        taken_in: references of items.
    """

    def __init__(self, world: Surroundings, good: float, deadline: float) -> None:
        self.book: list[dict[str, Any]] = []
        self.taken_in: set[str] = set()
        self.deadline = deadline
        self._world = world
        self._good = good
        self._exchanges: dict[str, list[Exchange]] = {}

    def drawn(self) -> Answer:
        """Draw what becomes of the next request."""
        chance = self._world.chance
        if self._world.is_calm or chance.random() < self._good:
            return Answer.GOOD
        return chance.choices(list(FAULTS), list(FAULTS.values()))[0]

    def begin(self, exchange: Exchange) -> float:
        """Take the first byte of a request; return how many seconds it travels."""
        before = self._exchanges.setdefault(exchange.identity, [])
        for other in (each for each in before if each.is_open):
            # Frozen, it goes on when its late result does most harm.
            other.process.thaw(self._world.chance.random() * THAWING_SECONDS)
            if exchange.begun < other.begun + self.deadline:
                names = f"{exchange.process.name} sends {exchange.identity!r} while {other.process.name}"
                self._world.broken(f"one lease: {names} does")
        before.append(exchange)
        self._rests_on_a_claim(exchange, before)
        travel = self._world.chance.random() * TRAVEL_SECONDS
        if exchange.answer is not Answer.LOST_BEFORE:
            self._world.loop.call_later(travel, self._arrive, exchange)
        return travel

    def _rests_on_a_claim(self, exchange: Exchange, of_it: Sequence[Exchange]) -> None:
        connection = self._world.outside.raw_connection()
        try:
            row = connection.execute(_CLAIMED, (exchange.identity,)).fetchone()
            attempts, is_claimed, is_in_doubt, until = row
        finally:
            connection.close()
        if attempts < len(of_it):
            self._world.broken(
                f"uncounted: {exchange.identity!r} is sent {len(of_it)} times on {attempts} attempts"
            )
        if not is_in_doubt and any(each.was_taken_in for each in of_it):
            self._world.broken(f"doubt: {exchange.identity!r} was carried out, and is sent again without one")
        if not is_claimed:
            self._world.broken(f"evidence: {exchange.identity!r} is sent without a claim")
        elif until < f"{self._world.time.date() + timedelta(seconds=self.deadline):%Y-%m-%d %H:%M:%S.%f}":
            self._world.broken(
                f"evidence: {exchange.identity!r} may outlive its lease, which runs to {until}"
            )

    def _arrive(self, exchange: Exchange) -> None:
        if not exchange.is_open:
            return  # its connection was closed before
        world, digest = self._world, hashlib.sha256(exchange.body).hexdigest()
        self.book.append({"event": "request", "identity": exchange.identity, "sha256": digest})
        takes_in = exchange.answer in TAKES_IN or (
            exchange.answer in MAY_TAKE_IN and world.chance.random() < 0.5
        )
        world.note(f"{exchange.identity} of {exchange.process.name} arrives: {exchange.answer}, {takes_in}")
        if takes_in:
            items = enumerate(read_imports(exchange.body), 1)
            outcomes = [self._taken_in(item, place) for place, item in items]
            exchange.was_taken_in = any(each.section == "Success" for each in outcomes)
            exchange.reply = import_result(outcomes, 1)

    def _taken_in(self, item: Any, place: int) -> Outcome:
        if item.reference.startswith(REFUSED_REFERENCE):
            return Outcome(item, place, "Failure", "Product is not known")
        if item.reference in self.taken_in:
            return Outcome(item, place, "Duplicate", "Duplicate order")
        self.taken_in.add(item.reference)
        return Outcome(item, place, "Success")


class Network(httpx.AsyncBaseTransport):
    """The way of one process to the receiver: stands in for httpx over aiohttp.

    Args:
        world: where it is.
        receiver: at its end.
        process: at its beginning.
    """

    def __init__(self, world: Surroundings, receiver: Receiver, process: Sender) -> None:
        self._world = world
        self._receiver = receiver
        self._process = process

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        chance, answer = self._world.chance, self._receiver.drawn()
        if self._world.is_over:
            raise httpx.ConnectError("there is nobody")
        if answer is Answer.UNREACHABLE:
            await asyncio.sleep(chance.random() * TRAVEL_SECONDS)
            raise httpx.ConnectError("refused")
        if POISON.encode() in request.content:
            self._process.die("over poison")
            await asyncio.Future()
        identity = request.headers["idempotency-key"]
        exchange = Exchange(self._process, identity, request.content, answer, self._world.time.now)
        travel = self._receiver.begin(exchange)
        self._process.sends()
        try:
            return await self._answered(exchange, travel)
        finally:
            exchange.is_open = False

    async def _answered(self, exchange: Exchange, travel: float) -> httpx.Response:
        answer, thinking = exchange.answer, 0.01 + self._world.chance.random() * THINKING_SECONDS
        await asyncio.sleep(travel + thinking)
        if answer in (Answer.NEVER, Answer.LATE):
            await asyncio.sleep(2 * self._receiver.deadline)
        if answer in (Answer.LOST_BEFORE, Answer.LOST_AFTER):
            raise httpx.ReadError("reset")
        status = _STATUS.get(answer, 200)
        body = b"no" if status != 200 else exchange.reply.body
        content_type = "text/plain" if status != 200 else exchange.reply.content_type
        stream = _Stream(body, is_cut=answer is Answer.CUT)
        return httpx.Response(status, headers={"content-type": content_type}, stream=stream)


class _Stream(httpx.AsyncByteStream):
    def __init__(self, body: bytes, is_cut: bool) -> None:
        self._body = body
        self._is_cut = is_cut

    async def __aiter__(self) -> Any:
        yield self._body[: len(self._body) // 2]
        await asyncio.sleep(0)
        if self._is_cut:
            raise httpx.ReadError("cut")
        yield self._body[len(self._body) // 2 :]
