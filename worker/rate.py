"""A token bucket: pure, a function of what was in it, and `now`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from config import Rate


@dataclass(frozen=True, slots=True)
class Bucket:
    """Tokens at a moment; each lets one request begin."""

    tokens: float
    at: datetime


def filled(bucket: Bucket | None, rate: Rate, now: datetime) -> Bucket:
    """Return the bucket with what has come into it since; a new one is full."""
    if bucket is None:
        return Bucket(float(rate.bucket), now)
    seconds = max(0.0, (now - bucket.at).total_seconds())
    return Bucket(min(rate.bucket, bucket.tokens + seconds * rate.per_second), max(now, bucket.at))
