"""Limits of a destination that a person has set: pure, the lower of those and the configuration's."""

from __future__ import annotations

from typing import NamedTuple

from config import Destination, Rate


class Limits(NamedTuple):
    """Limits that a person has set; None where that of the configuration alone counts."""

    window: int | None = None
    rate: Rate | None = None


NO_LIMITS = Limits()


def limited(destination: Destination, limits: Limits) -> Destination:
    """Return a destination with its limits set by a person, where those are the lower ones."""
    window, rate = destination.window, destination.rate
    if limits.window is not None:
        window = min(window, limits.window)
    if limits.rate is not None and (rate is None or limits.rate.per_second < rate.per_second):
        rate = limits.rate
    if (window, rate) == (destination.window, destination.rate):
        return destination
    return destination.model_copy(update={"window": window, "rate": rate})
