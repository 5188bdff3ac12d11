"""When a failed message is tried again: pure, a function of values and `now`."""

from __future__ import annotations

from datetime import datetime, timedelta

from config import RetryPolicy

WITHOUT_SCHEDULE = timedelta(seconds=30)
"""From one check to the next where the schedule has no wait."""


def next_retry_at(
    now: datetime,
    tries: int,
    policy: RetryPolicy,
    not_before: timedelta | None = None,
    chance: float = 0.5,
    after: timedelta | None = None,
) -> datetime | None:
    """Return when the next try is due, or None when the last one has been made.

    Args:
        now: the moment the try failed.
        tries: failures counted so far, this one included (from 1).
        policy: the schedule: n waits make n + 1 tries.
        not_before: how long the receiver asked us to wait; it lengthens the wait up to the policy's
            limit and never shortens it.
        chance: a number from 0 to 1 that places the wait within its jitter; 0.5 is the middle.
        after: the wait in place of the schedule's, which still says how many tries there are.
    """
    waits = policy.waits
    if tries > len(waits):
        return None
    return now + _wait(waits[tries - 1] if after is None else after, policy, not_before, chance)


def next_check_at(
    now: datetime,
    attempt: int,
    policy: RetryPolicy,
    not_before: timedelta | None = None,
    chance: float = 0.5,
    after: timedelta | None = None,
) -> datetime:
    """Return when the next attempt is due after a check, which spends no try.

    Args:
        attempt: the number of the attempt that the check was, by which the schedule's waits are taken; the
            last of them goes on.
        after: the wait in place of the schedule's; zero where the check said that the message can be sent.
    """
    waits = policy.waits or [WITHOUT_SCHEDULE]
    wait = waits[min(attempt, len(waits)) - 1] if after is None else after
    return now + _wait(wait, policy, not_before, chance)


def _wait(wait: timedelta, policy: RetryPolicy, not_before: timedelta | None, chance: float) -> timedelta:
    varied = wait * (1 + policy.jitter * (2 * chance - 1))
    return varied if not_before is None else max(varied, min(not_before, policy.retry_after_header_max))


def end_of_life(created_at: datetime, expires_at: datetime | None, policy: RetryPolicy) -> datetime:
    """Return the moment from which a message is no longer sent."""
    oldest = created_at + policy.max_age
    return oldest if expires_at is None else min(oldest, expires_at)
