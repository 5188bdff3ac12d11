"""A destination with its gate, engines and messages in virtual time: a day passes in a second.

The decisions are the service's own (`worker.gate`, `worker.settling`, `worker.sharing`); the receiver, the
database and the clock are stand-ins. The same seed makes the same run.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import NamedTuple

from config import Destination
from orderflow_outbox import State, WhenDead
from worker.deliveries import Claim, Outcome, Reply
from worker.gate import Ask, Gate, admit, after, begun_at, is_good, opens_at
from worker.holding import ASKED_AGAIN_AFTER_SECONDS, RENEWED_EVERY_SECONDS
from worker.settling import settle
from worker.sharing import fair_shares, may_take
from worker.verdicts import Delivered, RetryLater, Verdict, Why

START = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=90)
OK = Delivered(Why("imported", "taken in", "virtual"))
DOWN = RetryLater(Why("http_503", "not up", "virtual"), systemic=True)
OWN_FAULT = RetryLater(Why("error_page", "the order is locked", "virtual"), systemic=False)
CRASHED = RetryLater(Why("http_500", "it crashed", "virtual"), systemic=True)
_STATUSES: dict[Verdict, int] = {OK: 200, OWN_FAULT: 200, CRASHED: 500}
"""What comes with a verdict; DOWN has no answer."""


class Answer(NamedTuple):
    """What a receiver answers to one request.

    Attributes:
        seconds: how long it takes.
    """

    seconds: float
    verdict: Verdict


Receiver = Callable[[float, int, int, random.Random], Answer]
"""Answers a request: given the seconds since the start, how many are in progress, the message, and chance."""


@dataclass(slots=True)
class VirtualEngine:
    """What an engine holds and has a use for."""

    name: str
    slots: int = 0
    to_begin: int | None = None
    probing: bool = False
    probe_begun: bool = False
    in_use: int = 0
    answers: list[tuple[datetime, float]] = field(default_factory=list)

    @property
    def free(self) -> int:
        free = self.slots - self.in_use
        return free if self.to_begin is None else min(free, self.to_begin)


class Sent(NamedTuple):
    """One request, as the receiver saw it, in seconds since the start."""

    at: float
    message: int
    probe: bool
    in_progress: int


class Moment(NamedTuple):
    """How it stood when an engine asked, in seconds since the start."""

    at: float
    breaker: str
    window: int
    delivered: int


class World:
    """One destination and what goes on there.

    Args:
        destination: with its limits.
        due: when each message is due, in seconds since the start.
        receiver: answers requests.
        engines: how many there are.
        seed: of all chance.

    Attributes:
        sent: every request.
        states: where each message stands.
        moments: how it stood over time.
    """

    def __init__(
        self,
        destination: Destination,
        due: Sequence[float],
        receiver: Receiver,
        engines: int = 2,
        seed: int = 1,
    ) -> None:
        self._destination = destination
        self._receiver = receiver
        self._chance = random.Random(seed)  # noqa: S311 (it has to be repeatable)
        self._engines = [VirtualEngine(f"engine-{n}") for n in range(engines)]
        self._held: dict[str, int] = {}
        self._due = [(moment, number) for number, moment in enumerate(sorted(due))]
        self._tries = dict.fromkeys(range(len(due)), 0)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._now = 0.0
        self._in_progress = 0
        self.gate = Gate()
        self.sent: list[Sent] = []
        self.states = dict.fromkeys(range(len(due)), State.PENDING)
        self.moments: list[Moment] = []
        self.delivered = 0
        for engine in self._engines:
            self._at(self._chance.random(), lambda engine=engine: self._ask(engine))  # type: ignore[misc]

    def run(self, seconds: float) -> None:
        """Let time pass until a moment, or until nothing is left to do."""
        while self._events and self._events[0][0] <= seconds:
            self._now, _, happen = heapq.heappop(self._events)
            happen()

    def _at(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (seconds, next(self._numbers), happen))

    @property
    def _moment(self) -> datetime:
        return START + timedelta(seconds=self._now)

    def _ask(self, engine: VirtualEngine) -> None:
        if self.is_finished:
            return
        due = sum(1 for at, _ in self._due[: self._destination.window] if at <= self._now)
        wanted = min(engine.in_use + due, self._destination.window)
        wants = {each.name: each.in_use + due for each in self._engines}
        ask = Ask(wanted, engine.in_use, engine.to_begin or 0, engine.probe_begun, engine.answers)
        engine.answers = []
        self.gate, admission = admit(
            self.gate, engine.name, ask, sum(wants.values()), self._moment, self._destination, LEASE
        )
        engine.probing = self.gate.prober == engine.name
        engine.probe_begun = engine.probe_begun and engine.probing and not admission.to_begin
        fair = fair_shares(admission.window, {**wants, engine.name: wanted})[engine.name]
        fair = min(fair, may_take(admission.window, self._held, engine.name))
        engine.slots = engine.in_use + admission.window if engine.probing else fair
        engine.to_begin = admission.to_begin
        self._held[engine.name] = max(engine.slots, engine.in_use)
        size = admission.window if self.gate.window is None else self.gate.window.size
        self.moments.append(Moment(self._now, self.gate.breaker.state, size, self.delivered))
        self._begin_all(engine)
        self._at(self._next_ask(), lambda: self._ask(engine))

    def _next_ask(self) -> float:
        if self.gate.prober is not None:
            return self._now + RENEWED_EVERY_SECONDS
        opens = opens_at(self.gate, "", self._moment, self._destination.pauses)
        shut_for = 0.0 if opens is None else (opens - self._moment).total_seconds()
        if shut_for > 0:
            return self._now + max(RENEWED_EVERY_SECONDS, shut_for)
        if self._due and self._due[0][0] > self._now + ASKED_AGAIN_AFTER_SECONDS and not self._in_progress:
            return self._due[0][0]
        return self._now + ASKED_AGAIN_AFTER_SECONDS

    @property
    def is_finished(self) -> bool:
        return not self._due and not self._in_progress

    def _begin_all(self, engine: VirtualEngine) -> None:
        while engine.free > 0 and self._due and self._due[0][0] <= self._now:
            _, message = heapq.heappop(self._due)
            self._begin(engine, message)

    def _begin(self, engine: VirtualEngine, message: int) -> None:
        engine.in_use += 1
        engine.probe_begun = engine.probing
        if engine.to_begin is not None:
            engine.to_begin -= 1
        self._in_progress += 1
        self.states[message] = State.SENDING
        self.sent.append(Sent(self._now, message, engine.probing, self._in_progress))
        answer = self._receiver(self._now, self._in_progress, message, self._chance)
        deadline = self._destination.attempt_deadline.total_seconds()
        if answer.seconds > deadline:
            answer = Answer(deadline, DOWN)
        claim = _claim(message, self._tries[message], self._moment)
        status = _STATUSES.get(answer.verdict)
        reply = None if status is None else Reply(status, (), b"")
        outcome = Outcome(claim, answer.verdict, reply=reply, seconds=answer.seconds, probe=engine.probing)
        self._at(self._now + answer.seconds, lambda: self._end(engine, outcome))

    def _end(self, engine: VirtualEngine, outcome: Outcome) -> None:
        engine.in_use -= 1
        self._in_progress -= 1
        if is_good(outcome):
            engine.answers.append((begun_at(outcome), outcome.seconds))
        now, message = self._moment, outcome.claim.id
        self.gate = after(self.gate, outcome, now, self._destination)
        opens_at = None if self.gate.breaker.is_closed else self.gate.breaker.probe_at
        policy = self._destination.retry
        settlement = settle(outcome, now, policy, WhenDead.WAIT, self._chance.random, opens_at=opens_at)
        self.states[message], self._tries[message] = settlement.state, settlement.tries
        self.delivered += settlement.state is State.DELIVERED
        if settlement.due_at is not None:
            heapq.heappush(self._due, ((settlement.due_at - START).total_seconds(), message))
        if self.gate.is_shut(now):
            for each in self._engines:
                each.slots = 0
        self._begin_all(engine)


def _claim(message: int, tries: int, now: datetime) -> Claim:
    return replace(_CLAIM, id=message, tries=tries, claimed_at=now)


_CLAIM = Claim(
    id=0,
    destination="main",
    operation="order-import",
    channel=None,
    organisation=None,
    key=None,
    version=None,
    idempotency_key="",
    token=1,
    attempt=1,
    tries=0,
    in_doubt=False,
    edited=False,
    created_at=START,
    expires_at=None,
    replay_of=None,
    claimed_at=START,
    payload=None,
    query={},
    headers={},
)
