"""The breaker of a destination: pure, a function of what requests came to, and `now`.

It opens when the destination fails one message after another, whatever they are, or fails a large share of
them. While it is open waiting messages are left alone, but for one probe at widening intervals. A probe
that is answered closes it.

A message that fails again and again tells nothing of the destination, unless its failure is one that no
message can bring about, such as a refused connection: it counts once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from config import BreakerPolicy

SHARE_MEMORY = 20
"""Of about so many answers the share of failures is taken; the older one is, the less it weighs."""
MOST_FAILED = 20
"""So many messages that have failed are remembered."""
NO_SHARE = 0.001
"""A share so small is none."""

RARE_FROM = 40
"""After so many failed probes the next one is as far off as any."""


class BreakerState(StrEnum):
    """What a breaker lets through: everything, nothing, or the one request that is a probe."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Result(NamedTuple):
    """What a request came to, as far as it tells of the destination.

    Attributes:
        message_id: whose it was.
        failed: whether the destination is at fault.
        unmistakable: whether no message can bring such a failure about, so that each of them counts.
        probe: whether it was let through as a probe.
    """

    message_id: int
    failed: bool
    probe: bool = False
    unmistakable: bool = False


@dataclass(frozen=True, slots=True)
class Breaker:
    """A breaker at a moment.

    Attributes:
        failures: how many in a row were the destination's own, each of another message.
        failed: the messages that failed lately, and have not been answered well since.
        share: failures among the latest results.
        probes: how many failed in a row since it opened.
        probe_at: when the next probe may be made; while one is, when that one is given up.
    """

    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    failed: tuple[int, ...] = ()
    share: float = 0.0
    probes: int = 0
    probe_at: datetime | None = None

    @property
    def is_closed(self) -> bool:
        return self.state is BreakerState.CLOSED

    @property
    def is_calm(self) -> bool:
        """Whether a good result would change nothing."""
        return self.is_closed and not self.failures and self.share == 0.0


CLOSED = Breaker()


def after(breaker: Breaker, result: Result, now: datetime, policy: BreakerPolicy) -> Breaker:
    """Return the breaker after one more result.

    While it is not closed only a probe's counts: another was begun before it opened.
    """
    if not breaker.is_closed:
        return _after_probe(breaker, result, now, policy) if result.probe else breaker
    share = breaker.share + (result.failed - breaker.share) / SHARE_MEMORY
    if not result.failed:
        failed = tuple(each for each in breaker.failed if each != result.message_id)
        return replace(breaker, failures=0, failed=failed, share=share if share > NO_SHARE else 0.0)
    if result.message_id in breaker.failed and not result.unmistakable:
        return breaker
    failed = (*(each for each in breaker.failed if each != result.message_id), result.message_id)
    remembered = failed[-max(MOST_FAILED, policy.failures) :]
    counted = replace(breaker, failures=breaker.failures + 1, failed=remembered, share=share)
    if counted.failures < policy.failures and counted.share < policy.share:
        return counted
    return opened(counted, now, policy)


def opened(breaker: Breaker, now: datetime, policy: BreakerPolicy) -> Breaker:
    """Return the breaker open, its first probe to come."""
    return replace(breaker, state=BreakerState.OPEN, probes=0, probe_at=now + policy.probe_after(0))


def turned_away(breaker: Breaker, now: datetime, policy: BreakerPolicy) -> Breaker:
    """Return the breaker open to a destination that lets nobody in: its probes are rare from the start."""
    return replace(
        breaker, state=BreakerState.OPEN, probes=RARE_FROM, probe_at=now + policy.probe_after(RARE_FROM)
    )


def may_probe(breaker: Breaker, now: datetime) -> bool:
    """Tell whether a probe may be made now: it is time for one, or the one being made was given up."""
    return not breaker.is_closed and (breaker.probe_at is None or breaker.probe_at <= now)


def probing(breaker: Breaker, given_up_at: datetime) -> Breaker:
    """Return the breaker with a probe being made."""
    return replace(breaker, state=BreakerState.PROBING, probe_at=given_up_at)


def probe_unused(breaker: Breaker, now: datetime) -> Breaker:
    """Return the breaker whose probe was not made after all: the next one may be, at once."""
    return replace(breaker, state=BreakerState.OPEN, probe_at=now)


def _after_probe(breaker: Breaker, result: Result, now: datetime, policy: BreakerPolicy) -> Breaker:
    if not result.failed:
        return CLOSED
    probes = breaker.probes + 1
    return replace(breaker, state=BreakerState.OPEN, probes=probes, probe_at=now + policy.probe_after(probes))
