"""One attempt: send a claimed message and judge the answer."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
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


class Attempter:
    """Makes attempts for one engine.

    Args:
        configuration: the destinations with their deadlines, and the operations known.
        transport: sends requests.
        lease: how long a claim is held.

    Raises:
        SecretMissing: a destination's password is not to be had.
    """

    def __init__(
        self,
        configuration: Configuration,
        transport: Transport,
        lease: timedelta,
    ) -> None:
        self._destinations = configuration.destinations
        self._builders = {name: RequestBuilder(each) for name, each in self._destinations.items()}
        self._catalogue = configuration.catalogue
        self._judge = Judge(configuration.rules)
        self._checks = Checks(configuration.queries, self._judge)
        self._schemas = Schemas(configuration.schemas)
        self._transport = transport
        self._lease_seconds = lease.total_seconds()
        self._margin = LEASE_MARGIN * self._lease_seconds

    async def attempt(self, claim: Claim, lease_ends: float) -> Outcome:
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
        waited = max(0.0, time.monotonic() - (lease_ends - self._lease_seconds))
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
    ) -> Outcome:
        deadline = self._destinations[claim.destination].attempt_deadline.total_seconds()
        started = time.monotonic()
        if started + deadline + self._margin > lease_ends:
            return self.unsent(claim)
        try:
            reply = await self._transport.send(request, deadline)
            come_by(Failpoint.AFTER_REPLY)
        except asyncio.CancelledError:  # stopped at the bound: the outcome is unknown
            outcome = Outcome(claim, None, in_doubt=True)
        else:
            masking = self._builders[claim.destination].masking
            if isinstance(reply, Failure):
                reply = masking.failure(reply)
            outcome = self._judged(claim, operation, question, reply)
            if isinstance(reply, Reply) and masking.finds(reply):
                outcome = retold(outcome, self._judged(claim, operation, question, masking.reply(reply)))
        return replace(
            outcome,
            request=request,
            started_after=max(0.0, started - (lease_ends - self._lease_seconds)),
            seconds=time.monotonic() - started,
            checked_by=None if question is None else question.query.name,
        )

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
                reply, claim.destination, operation, claim.in_doubt, claim.claimed_at, claim.payload
            )
        except Exception as error:
            text = f"judging the reply failed: {type(error).__name__}"
            _log(claim, text, error)
            unknown = RetryLater(Why("not_judged", text, "engine"), systemic=False)
            return Outcome(claim, unknown, reply=answer, in_doubt=True)
        in_doubt = claim.in_doubt or leaves_in_doubt(reply)
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


def _unknown(claim: Claim) -> Refused:
    text = f"this service knows no operation {claim.operation!r}"
    return Refused(Why("unknown_operation", text, "catalogue"))
