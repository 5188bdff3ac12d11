"""The limits of a destination beside its window: when its breaker opens, and how many requests it takes."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from .values import Duration, Strict, in_words

FETCHED_EVERY = timedelta(milliseconds=250)
"""How often an engine takes tokens out of the bucket that all of them share."""
_MOST_DOUBLINGS = 40
"""A wait of a millisecond is one of years by then; past it a span of time could not be told."""


class BreakerPolicy(Strict):
    """One table `breaker` of the destinations file."""

    failures: int = Field(default=5, ge=1, le=1000, strict=True)
    share: float = Field(default=0.5, gt=0.0, le=1.0)
    first_probe: Duration = timedelta(seconds=5)
    longest_probe: Duration = timedelta(hours=1)

    @model_validator(mode="after")
    def _widens(self) -> BreakerPolicy:
        if self.first_probe > self.longest_probe:
            raise ValueError("give a first_probe that is not longer than longest_probe")
        return self

    def probe_after(self, failed: int) -> timedelta:
        """Return the wait before the next probe, twice as long after each one that failed."""
        doublings = min(failed, _MOST_DOUBLINGS)
        wait: timedelta = self.first_probe * 2**doublings
        return min(wait, self.longest_probe)


class Rate(Strict):
    """The value of `rate` in the destinations file: so many requests per span of time, in a token bucket."""

    requests: int = Field(ge=1, le=1_000_000, strict=True)
    per: Duration
    burst: int | None = Field(default=None, ge=1, le=1_000_000, strict=True)

    @model_validator(mode="after")
    def _holds_what_flows_in(self) -> Rate:
        least = math.ceil(self.per_second * FETCHED_EVERY.total_seconds())
        if self.burst is not None and self.burst < least:
            raise ValueError(
                f"burst = {self.burst} is less than comes in between two looks: give {least} or more"
            )
        return self

    @property
    def per_second(self) -> float:
        return self.requests / self.per.total_seconds()

    def __str__(self) -> str:
        return f"{self.requests}/{in_words(self.per).removeprefix('1 ')}"

    @property
    def bucket(self) -> int:
        """How many requests may be made at once after a pause; without `burst` those of a second."""
        return self.burst or max(1, math.ceil(self.per_second))


def _is_a_table(value: Any) -> Any:
    if not isinstance(value, dict | Rate):
        raise ValueError('write { requests = 600, per = "1m" }')
    return value


RateTable = Annotated[Rate, BeforeValidator(_is_a_table)]
"""A rate as it stands in the file."""
