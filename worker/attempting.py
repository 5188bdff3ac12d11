"""One attempt: send a claimed message and judge the answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from traceback import format_tb

from config import Configuration
from orderflow_outbox import Operation

from .checking import Checks, Question
from .deliveries import Claim, Failure, Outcome, Reply, Request
from .failpoints import Failpoint, come_by
from .masking import retold
from .requests import RequestBuilder
from .rules import Judge, leaves_in_doubt
from .schemas import Schemas
from .settling import expiry
from .transport import Transport
from .verdicts import Delivered, Refused, RetryLater, Verdict, Why

LEASE_MARGIN = 0.1
"""The share of a lease that must be left after the attempt's deadline, to record its result."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was sent, with what came of it, not judged yet.

    Attributes:
        question: the check that was made instead, if any.
        reply: None where the wait for it was cut short.
        started: when it was sent, in seconds after the claim.
        seconds: how long it took.
    """

    claim: Claim
    operation: Operation
    question: Question | None
    request: Request
    reply: Reply | Failure | None
    started: float
    seconds: float


class Attempter:
    """Makes attempts for one engine.

    Args:
        configuration: the destinations with their deadlines, and the operations known.
        transport: sends requests.
        lease: how long a claim is held.
        monotonic: the process's clock, by which leases are watched.

    Raises:
        SecretMissing: a destination's password is not to be had.
    """

    def __init__(
        self,
        configuration: Configuration,
        transport: Transport,
        lease: timedelta,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._destinations = configuration.destinations
        self._builders = {name: RequestBuilder(each) for name, each in self._destinations.items()}
        self._catalogue = configuration.catalogue
        self._judge = Judge(configuration.rules)
        self._checks = Checks(configuration.queries, self._judge)
        self._schemas = Schemas(configuration.schemas)
        self._transport = transport
        self._monotonic = monotonic
        self._lease_seconds = lease.total_seconds()
        self._margin = LEASE_MARGIN * self._lease_seconds

    async def attempt(self, claim: Claim, lease_ends: float) -> Outcome:
        """Send `claim` and judge the answer; see `ask` and `judge`."""
        return self.judge(await self.ask(claim, lease_ends))

    async def ask(self, claim: Claim, lease_ends: float) -> Answered | Outcome:
        """Send `claim` unless its lease or its life would end first; never raises.

        Args:
            lease_ends: when the lease runs out, by the monotonic clock.
        """
        try:
            ready = self._ready(claim, lease_ends)
        except Exception as error:
            text = f"its request could not be made: {type(error).__name__}"
            _log(claim, text, error)
            return self.unsent(claim, RetryLater(Why("not_made", text, "engine"), systemic=False))
        return ready if isinstance(ready, Outcome) else await self._sent(claim, lease_ends, *ready)

    def _ready(self, claim: Claim, lease_ends: float) -> Outcome | tuple[Operation, Question | None, Request]:
        """Return the operation, the check that is made instead, and the request; or why none is sent."""
        destination = self._destinations[claim.destination]
        operation = self._catalogue.get(claim.operation)
        if operation is None:
            return self.unsent(claim, _unknown(claim))
        waited = max(0.0, self._monotonic() - (lease_ends - self._lease_seconds))
        now = claim.claimed_at + timedelta(seconds=waited)
        over = expiry(claim, now, destination.retry_policy(claim.operation))
        if over is not None:
            return self.unsent(claim, over)
        if claim.tries == 0 and not claim.in_doubt:
            problem = self._schemas.problem(claim.operation, claim.payload)
            if problem is not None:
                return self.unsent(claim, Refused(Why("schema_invalid", problem, "schema")))
        question = self._checks.question(claim, operation)
        return operation, question, self._request(claim, operation, question)

    async def _sent(
        self,
        claim: Claim,
        lease_ends: float,
        operation: Operation,
        question: Question | None,
        request: Request,
    ) -> Answered | Outcome:
        deadline = self._destinations[claim.destination].attempt_deadline.total_seconds()
        started = self._monotonic()
        if started + deadline + self._margin > lease_ends:
            return self.unsent(claim)
        reply = None
        with suppress(asyncio.CancelledError):  # stopped at the bound: the outcome is unknown
            reply = await self._transport.send(request, deadline)
            come_by(Failpoint.AFTER_REPLY)
        started_after = max(0.0, started - (lease_ends - self._lease_seconds))
        seconds = self._monotonic() - started
        return Answered(claim, operation, question, request, reply, started_after, seconds)

    def judge(self, answered: Answered | Outcome) -> Outcome:
        """Judge what came of a request; what was not sent has its outcome already. Never raises."""
        if isinstance(answered, Outcome):
            return answered
        question = answered.question
        try:
            outcome = self._masked(answered)
        except Exception as error:  # nothing is kept of a reply whose credentials could not be masked
            outcome = Outcome(answered.claim, _not_judged(answered.claim, error), in_doubt=True)
        return replace(
            outcome,
            request=answered.request,
            started_after=answered.started,
            seconds=answered.seconds,
            checked_by=None if question is None else question.query.name,
        )

    def _masked(self, answered: Answered) -> Outcome:
        """Judge what came of a request, and have the outcome tell no credential that the reply repeats."""
        claim, operation, question = answered.claim, answered.operation, answered.question
        masking, reply = self._builders[claim.destination].masking, answered.reply
        if reply is None:
            return Outcome(claim, None, in_doubt=True)
        if isinstance(reply, Failure):
            return self._judged(claim, operation, question, masking.failure(reply))
        outcome = self._judged(claim, operation, question, reply)
        if masking.finds(reply):
            return retold(outcome, self._judged(claim, operation, question, masking.reply(reply)))
        return outcome

    def unsent(self, claim: Claim, verdict: Verdict | None = None) -> Outcome:
        """Return the outcome of a message that was not sent: given back, or judged as it stands."""
        return Outcome(claim, verdict, in_doubt=claim.in_doubt)

    def _request(self, claim: Claim, operation: Operation, question: Question | None) -> Request:
        builder = self._builders[claim.destination]
        if question is None:
            return builder.build(claim, operation)
        return builder.ask(question.query, question.parameters, claim.channel, claim.organisation)

    def _judged(
        self, claim: Claim, operation: Operation, question: Question | None, reply: Reply | Failure
    ) -> Outcome:
        answer = reply if isinstance(reply, Reply) else None
        try:
            if question is not None:
                checked = self._checks.verdict(question, claim, reply)
                return Outcome(claim, checked.verdict, reply=answer, in_doubt=not checked.settled)
            verdict, items = self._judge.judge(
                reply,
                claim.destination,
                operation,
                claim.in_doubt,
                claim.claimed_at,
                claim.payload,
                claim.edited,
            )
        except Exception as error:
            return Outcome(claim, _not_judged(claim, error), reply=answer, in_doubt=True)
        in_doubt = claim.in_doubt or leaves_in_doubt(reply, verdict)
        if isinstance(verdict, Delivered):
            in_doubt = False
        elif not all(item.mentioned for item in items):
            in_doubt = True
        # Asked of the last try alone: after it a check may keep the message from its death.
        last = claim.tries >= len(self._destinations[claim.destination].retry_policy(claim.operation).waits)
        checkable = last and in_doubt and self._checks.is_checkable(claim, operation)
        return Outcome(claim, verdict, reply=answer, in_doubt=in_doubt, items=items, checkable=checkable)


def _log(claim: Claim, text: str, error: Exception) -> None:
    """Log where an error came from: what it says may quote a document, or a reply with credentials."""
    log.error("message %d: %s\n%s", claim.id, text, "".join(format_tb(error.__traceback__)))


def _not_judged(claim: Claim, error: Exception) -> RetryLater:
    text = f"judging the reply failed: {type(error).__name__}"
    _log(claim, text, error)
    return RetryLater(Why("not_judged", text, "engine"), systemic=False)


def _unknown(claim: Claim) -> Refused:
    text = f"this service knows no operation {claim.operation!r}"
    return Refused(Why("unknown_operation", text, "catalogue"))
