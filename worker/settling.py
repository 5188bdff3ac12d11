"""From a verdict to what becomes of the message: pure, a function of values and `now`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from config import RetryPolicy
from orderflow_outbox import Operation, State, WhenDead

from .deliveries import Child, Claim, Outcome, Settlement
from .retry import end_of_life, next_check_at, next_retry_at
from .splitting import split
from .verdicts import Delivered, Hold, Refused, RetryLater, Why

HOLD_WAIT = timedelta(seconds=30)
"""How long a message that was turned away keeps off, while its destination is found out about."""


def settle(
    outcome: Outcome,
    now: datetime,
    policy: RetryPolicy,
    followers: WhenDead,
    chance: Callable[[], float],
    *,
    opens_at: datetime | None = None,
) -> Settlement:
    """Return where the message of `outcome` goes from here.

    Args:
        opens_at: when the next probe is made of a destination whose breaker is open by now. Its own failure
            spends no try then, and the message is due with that probe: behind those that come until then.
        followers: whether later messages of its key wait for it when it dies.
        chance: gives a number from 0 to 1, for the jitter.
    """
    match outcome.verdict:
        case Delivered():
            delivered = _ended(outcome, State.DELIVERED, None, in_doubt=False, blocks=False)
            return replace(delivered, children=split(outcome, now, policy, followers, chance))
        case Refused(why):
            return _dead(outcome, why, followers)
        case Hold():
            return _again(outcome, opens_at or now + HOLD_WAIT, outcome.claim.tries)
        case RetryLater(systemic=True) if opens_at is not None:
            return _again(outcome, opens_at, outcome.claim.tries)
        case RetryLater() as later:
            return _retried(outcome, now, policy, followers, later, chance())
        case None:
            return _again(outcome, now, outcome.claim.tries)


def when_dead(catalogue: Mapping[str, Operation], operation: str) -> WhenDead:
    """Return what a dead letter of `operation` does to its followers; they wait for an unknown one."""
    known = catalogue.get(operation)
    return WhenDead.WAIT if known is None else known.when_dead


def obsolete(settlement: Settlement) -> Settlement:
    """Return where a message goes that another has made obsolete, or its items that were not delivered."""
    if settlement.state is State.DELIVERED:
        return replace(settlement, children=tuple(_obsolete_child(each) for each in settlement.children))
    return replace(settlement, state=State.SUPERSEDED, due_at=None, blocks=False, death=None)


def _obsolete_child(child: Child) -> Child:
    """Return where items go of a message that another one has made obsolete meanwhile."""
    return replace(child, state=State.SUPERSEDED, due_at=None, blocks=False)


def _retried(
    outcome: Outcome,
    now: datetime,
    policy: RetryPolicy,
    followers: WhenDead,
    later: RetryLater,
    chance: float,
) -> Settlement:
    claim, why = outcome.claim, later.why
    tries = claim.tries + later.spends_try
    wait = (policy, later.not_before, chance, later.after)
    no_more = tries > len(policy.waits)
    if no_more and not outcome.in_doubt and not later.spends_try:
        text = f"after {tries} tries, the last of them without an answer: {why.text}"
        return _dead(outcome, Why(why.reason, text, why.rule), followers, tries)
    if not later.spends_try or (no_more and outcome.checkable):
        # Before it dies of the last try a check tells whether that was carried out.
        due_at: datetime | None = next_check_at(now, claim.attempt, *wait)
    else:
        due_at = next_retry_at(now, tries, *wait)
    if due_at is None:
        return _dead(outcome, Why(why.reason, f"after {tries} tries: {why.text}", why.rule), followers, tries)
    end = end_of_life(claim.created_at, claim.expires_at, policy)
    if due_at >= end:
        text = f"no try left before its end on {end:%Y-%m-%d %H:%M:%S} UTC; last: {why.text}"
        return _dead(outcome, Why("expired", text, why.rule), followers, tries)
    return _again(outcome, due_at, tries)


def expiry(claim: Claim, now: datetime, policy: RetryPolicy) -> Refused | None:
    """Return the verdict on a message past the end of its life, None while it may be sent."""
    end = end_of_life(claim.created_at, claim.expires_at, policy)
    if now < end:
        return None
    text = f"not delivered before its end on {end:%Y-%m-%d %H:%M:%S} UTC"
    return Refused(Why("expired", text, "largest-age"))


def _again(outcome: Outcome, due_at: datetime, tries: int) -> Settlement:
    claim = outcome.claim
    return Settlement(
        outcome,
        state=State.PENDING,
        due_at=due_at,
        tries=tries,
        in_doubt=outcome.in_doubt,
        blocks=claim.key is not None,
    )


def _dead(outcome: Outcome, why: Why, followers: WhenDead, tries: int | None = None) -> Settlement:
    blocks = outcome.claim.key is not None and followers is WhenDead.WAIT
    return _ended(outcome, State.DEAD, why, outcome.in_doubt, blocks, tries)


def _ended(
    outcome: Outcome,
    state: State,
    death: Why | None,
    in_doubt: bool,
    blocks: bool,
    tries: int | None = None,
) -> Settlement:
    return Settlement(
        outcome,
        state=state,
        due_at=None,
        tries=outcome.claim.tries if tries is None else tries,
        in_doubt=in_doubt,
        blocks=blocks,
        death=death,
    )
