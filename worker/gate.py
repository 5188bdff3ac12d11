"""The gate of a destination: pure, a function of what requests came to and what engines want, and `now`.

It is one for all engines: held by hand, or by the service because the destination lets nobody in; shut by its
breaker but for probes; paused until a moment; or open, for as many requests at once as its window says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from config import Destination, Pause, paused_until
from orderflow_outbox.states import HELD

from . import breaker as breakers
from . import rate, throttle
from .breaker import CLOSED, Breaker, BreakerState, Result
from .deliveries import Outcome
from .limits import NO_LIMITS, Limits, limited
from .rate import Bucket
from .throttle import Answers, Window
from .verdicts import Hold, RetryLater, Why

OPEN = "open"
REFUSALS_BEFORE_HOLD = 3
THE_SERVICE = "the service"
"""Who holds a destination that lets nobody in."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate at a moment.

    Attributes:
        state: `open` or `held`.
        changed_by: who brought it into that state.
        why: the reason it is held for, or that its breaker opened for.
        refusals: how often in a row the destination has turned us away.
        prober: the engine that makes a probe.
        window: None while nothing is known of how the destination answers.
        bucket: None while no rate has been kept.
        paused_until: what the destination asked for.
        limits: set by a person, below those of the configuration.
    """

    state: str = OPEN
    changed_by: str | None = None
    why: Why | None = None
    refusals: int = 0
    breaker: Breaker = CLOSED
    prober: str | None = None
    window: Window | None = None
    bucket: Bucket | None = None
    paused_until: datetime | None = None
    limits: Limits = NO_LIMITS

    @property
    def is_held(self) -> bool:
        return self.state == HELD

    @property
    def is_held_by_hand(self) -> bool:
        """Whether only a person opens it again; what the service holds it tries again by itself, rarely."""
        return self.is_held and (self.changed_by != THE_SERVICE or self.breaker.is_closed)

    @property
    def is_calm(self) -> bool:
        """Whether a good answer would change nothing."""
        return not self.refusals and self.breaker.is_calm

    def is_paused(self, now: datetime) -> bool:
        """Tell whether the destination has asked for a wait that is not over."""
        return self.paused_until is not None and self.paused_until > now

    def is_shut(self, now: datetime) -> bool:
        """Tell whether nothing is to be sent but a probe."""
        return self.is_held or not self.breaker.is_closed or self.is_paused(now)


def begun_at(outcome: Outcome) -> datetime:
    """Return when the request of an outcome was begun, by the database's clock."""
    return outcome.claim.claimed_at + timedelta(seconds=outcome.started_after)


def is_good(outcome: Outcome) -> bool:
    """Tell whether the destination answered as one does that works, whatever the answer says."""
    verdict = outcome.verdict
    return outcome.reply is not None and not (
        isinstance(verdict, Hold) or (isinstance(verdict, RetryLater) and verdict.systemic)
    )


def is_failure(outcome: Outcome) -> bool:
    """Tell whether the destination was at fault."""
    return isinstance(outcome.verdict, RetryLater) and outcome.verdict.systemic


def after(gate: Gate, outcome: Outcome, now: datetime, destination: Destination) -> Gate:
    """Return the gate after what came of one more message."""
    destination = limited(destination, gate.limits)
    if isinstance(outcome.verdict, Hold):
        return _after_refusal(gate, outcome, outcome.verdict.why, now, destination)
    if is_failure(outcome):
        return _after_failure(gate, outcome, now, destination)
    if is_good(outcome):
        return _after_good(gate, outcome, now, destination)
    return _without_probe(gate, now) if outcome.probe else gate


def _after_good(gate: Gate, outcome: Outcome, now: datetime, destination: Destination) -> Gate:
    result = Result(outcome.claim.id, failed=False, probe=outcome.probe)
    breaker = breakers.after(gate.breaker, result, now, destination.breaker)
    known = replace(gate, breaker=breaker, refusals=0)
    if gate.breaker.is_closed or not breaker.is_closed:
        return known
    window = gate.window or throttle.first_window(destination.window, now)
    reopened = replace(known, prober=None, window=throttle.reopened(window, destination.window, now))
    if gate.is_held_by_hand:
        return reopened
    by = THE_SERVICE if gate.is_held else gate.changed_by
    return replace(reopened, state=OPEN, changed_by=by, why=None)


def _after_failure(gate: Gate, outcome: Outcome, now: datetime, destination: Destination) -> Gate:
    verdict = outcome.verdict
    assert isinstance(verdict, RetryLater)  # noqa: S101 (that is what a failure is)
    result = Result(outcome.claim.id, failed=True, probe=outcome.probe, unmistakable=outcome.is_unmistakable)
    breaker = breakers.after(gate.breaker, result, now, destination.breaker)
    window = gate.window and throttle.failed(gate.window, begun_at(outcome), now)
    opens = gate.breaker.is_closed and not breaker.is_closed
    paused = gate.paused_until
    if verdict.not_before is not None:
        longest = destination.retry_policy(outcome.claim.operation).retry_after_header_max
        until = now + min(verdict.not_before, longest)
        paused = until if paused is None else max(paused, until)
    return replace(
        gate,
        refusals=gate.refusals if outcome.reply is None else 0,
        breaker=breaker,
        window=window,
        why=verdict.why if opens and not gate.is_held else gate.why,
        prober=None if outcome.probe else gate.prober,
        paused_until=paused,
    )


def _after_refusal(gate: Gate, outcome: Outcome, why: Why, now: datetime, destination: Destination) -> Gate:
    refused = replace(gate, refusals=gate.refusals + 1)
    if outcome.probe:
        result = Result(outcome.claim.id, failed=True, probe=True)
        breaker = breakers.after(gate.breaker, result, now, destination.breaker)
        refused = replace(refused, breaker=breaker, prober=None)
    if gate.is_held or refused.refusals < REFUSALS_BEFORE_HOLD:
        return refused
    rarely = breakers.turned_away(refused.breaker, now, destination.breaker)
    return replace(refused, state=HELD, changed_by=THE_SERVICE, why=why, breaker=rarely)


def _without_probe(gate: Gate, now: datetime) -> Gate:
    if gate.breaker.state is not BreakerState.PROBING:
        return gate
    return replace(gate, breaker=breakers.probe_unused(gate.breaker, now), prober=None)


def resumed(gate: Gate, by: str, now: datetime) -> Gate:
    """Return the gate opened by a person; where its breaker is not closed, a probe may be made at once."""
    breaker = gate.breaker
    if not breaker.is_closed:
        breaker = replace(breaker, state=BreakerState.OPEN, probes=0, probe_at=now)
    return replace(
        gate,
        state=OPEN,
        changed_by=by,
        why=None if breaker.is_closed or gate.is_held_by_hand else gate.why,
        refusals=0,
        breaker=breaker,
        prober=None,
        paused_until=None,
    )


def opens_at(gate: Gate, engine: str, now: datetime, pauses: Sequence[Pause]) -> datetime | None:
    """Return when an engine may send, if only a probe; None where a person holds the destination."""
    if gate.is_held_by_hand:
        return None
    moments = [now, paused_by_calendar(pauses, now), gate.paused_until]
    moments.append(None if gate.breaker.is_closed or gate.prober == engine else gate.breaker.probe_at)
    return max(each for each in moments if each is not None)


def paused_by_calendar(pauses: Sequence[Pause], now: datetime) -> datetime | None:
    """Return until when the calendar keeps everything from a destination; None when it does not."""
    return paused_until([each for each in pauses if not each.operations], now)


class Ask(NamedTuple):
    """What an engine asks of a gate.

    Attributes:
        wanted: requests that it has a use for.
        in_use: those in progress.
        unspent: requests that it was allowed to begin, and has not.
        probe_begun: whether the probe that it was last allowed has been begun.
        answers: good ones since it asked before, with the moment each request was begun and its seconds.
        keeps: whether it would keep a slot, if nobody else has a use for it, since it had one of late.
    """

    wanted: int
    in_use: int = 0
    unspent: int = 0
    probe_begun: bool = False
    answers: Sequence[tuple[datetime, float]] = ()
    keeps: bool = False


class Admission(NamedTuple):
    """What a gate lets through.

    Attributes:
        window: requests in progress, of all engines together.
        to_begin: requests that the asking engine may begin; None for any number.
    """

    window: int
    to_begin: int | None = None


SHUT = Admission(0, 0)


def admit(
    gate: Gate,
    engine: str,
    ask: Ask,
    all_wanted: int,
    now: datetime,
    destination: Destination,
    lease: timedelta,
) -> tuple[Gate, Admission]:
    """Return what a gate lets an engine do, and the gate after it has.

    Args:
        all_wanted: what all engines together have a use for.
        lease: after which a probe that was not reported on is given up.
    """
    destination = limited(destination, gate.limits)
    gate = _with_tokens(gate, engine, ask, now, destination)
    paused = gate.is_paused(now) or paused_by_calendar(destination.pauses, now) is not None
    shut = paused or gate.is_held_by_hand
    if gate.prober == engine and not breakers.may_probe(gate.breaker, now):
        if ask.probe_begun:
            return gate, Admission(1, 0)  # it is being made, or about to be recorded
        if ask.wanted and not shut:
            return gate, Admission(1, 1)
        gate = _without_probe(gate, now)
    if shut:
        return gate, SHUT
    if not gate.breaker.is_closed:
        if not (ask.wanted and breakers.may_probe(gate.breaker, now)):
            return gate, SHUT
        breaker = breakers.probing(gate.breaker, now + lease)
        return replace(gate, breaker=breaker, prober=engine), Admission(1, 1)
    window = _adapted(gate, ask, all_wanted, now, destination)
    gate = replace(gate, window=window)
    if destination.rate is None or gate.bucket is None:
        return gate, Admission(window.size)
    tokens = min(int(gate.bucket.tokens), max(0, ask.wanted - ask.in_use))
    bucket = replace(gate.bucket, tokens=gate.bucket.tokens - tokens)
    return replace(gate, bucket=bucket), Admission(window.size, tokens)


def _with_tokens(gate: Gate, engine: str, ask: Ask, now: datetime, destination: Destination) -> Gate:
    """Return the gate with its bucket filled, also by what the engine has not made use of."""
    if destination.rate is None:
        return replace(gate, bucket=None)
    bucket = rate.filled(gate.bucket, destination.rate, now)
    if gate.prober != engine:
        bucket = replace(bucket, tokens=min(destination.rate.bucket, bucket.tokens + ask.unspent))
    return replace(gate, bucket=bucket)


def _adapted(gate: Gate, ask: Ask, all_wanted: int, now: datetime, destination: Destination) -> Window:
    window = gate.window or throttle.first_window(destination.window, now)
    seconds = [taken for begun, taken in ask.answers if begun >= window.since]
    return throttle.answered(
        window,
        Answers(len(seconds), sum(seconds)),
        limit=destination.window,
        is_limiting=all_wanted >= window.size,
        now=now,
    )
