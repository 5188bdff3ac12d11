"""A token bucket: pure, a function of what was in it, and `now`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from config import Rate

FURTHEST_APART = timedelta(seconds=10)
"""No two transactions that wait for one gate have moments so far apart."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Tokens at a moment; each lets one request begin."""

    tokens: float
    at: datetime


def filled(bucket: Bucket | None, rate: Rate, now: datetime) -> Bucket:
    """Return the bucket with what has come into it since; a new one is full.

    One that was filled by a clock which has been set back since is filled from now on.
    """
    if bucket is None:
        return Bucket(float(rate.bucket), now)
    if bucket.at > now + FURTHEST_APART:
        return Bucket(bucket.tokens, now)
    seconds = max(0.0, (now - bucket.at).total_seconds())
    return Bucket(min(rate.bucket, bucket.tokens + seconds * rate.per_second), max(now, bucket.at))
