"""How patiently a message is retried: the schedule, its jitter and its largest age."""

from __future__ import annotations

from datetime import timedelta
from itertools import accumulate
from typing import Any

from pydantic import Field, model_validator

from .values import Duration, Strict

MAX_TRIES = 100


class Exponential(Strict):
    """Waits that grow: `first`, times `factor` each, never above `max`, for `tries` tries in all."""

    first: Duration
    factor: float = Field(ge=1.0, le=100.0)
    max: Duration
    tries: int = Field(ge=1, le=MAX_TRIES)

    def waits(self) -> list[timedelta]:
        """Return the waits before the second, third … try."""
        longest, wait, waits = self.max, self.first, []
        for _ in range(self.tries - 1):
            waits.append(min(wait, longest))
            wait = min(wait * self.factor, longest)
        return waits


class RetryPolicy(Strict):
    """One table `retry` of the destinations file."""

    retry_after: list[Duration] | None = Field(default=None, max_length=MAX_TRIES - 1)
    exponential: Exponential | None = None
    jitter: float = Field(default=0.1, ge=0.0, le=0.5)
    retry_after_header_max: Duration = timedelta(hours=1)
    max_age: Duration = timedelta(days=7)

    @model_validator(mode="before")
    @classmethod
    def _one_schedule(cls, value: Any) -> Any:
        if isinstance(value, dict) and ("retry_after" in value) == ("exponential" in value):
            raise ValueError("give either retry_after or exponential")
        return value

    @property
    def waits(self) -> list[timedelta]:
        """The waits between tries: n of them make n + 1 tries."""
        if self.exponential is not None:
            return self.exponential.waits()
        return list(self.retry_after or [])

    @property
    def tries(self) -> int:
        """How many tries are made before the schedule or the largest age ends them, jitter left aside."""
        return len(self._waits_within_age()) + 1

    @property
    def last_try_after(self) -> timedelta:
        """How long after the first try the last one is made, jitter left aside."""
        return sum(self._waits_within_age(), timedelta())

    def _waits_within_age(self) -> list[timedelta]:
        moments = accumulate(self.waits)
        return [wait for wait, moment in zip(self.waits, moments, strict=True) if moment < self.max_age]


def merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return the table `base` overlaid by `own`; a schedule of either form replaces the other."""
    schedules = {"retry_after", "exponential"}
    inherited = {
        key: value for key, value in base.items() if not (own.keys() & schedules and key in schedules)
    }
    return {**inherited, **own}
