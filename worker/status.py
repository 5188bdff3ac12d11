"""How the destinations stand at one moment, and what keeps one from being sent to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from config import Destination, Rate, paused_operations
from orderflow_outbox.states import HELD

from .gate import THE_SERVICE, paused_by_calendar
from .limits import Limits, limited
from .store.finding import Row, open_incidents
from .store.gates import limits_of
from .store.indexing import NO_LAG, Lag, lag
from .store.standing import Attempts, Standing, gates, latest_attempts, slots_in_use, standing, totals
from .store.transactions import Transaction


class Way(StrEnum):
    """Whether the way to a destination is open, or else what stands in it; the first that does is told."""

    NOT_CONFIGURED = "not configured"
    HELD = "held"
    BREAKER_OPEN = "breaker open"
    PROBING = "probing"
    PAUSED = "paused"
    OPEN = "open"


_OF_BREAKERS = {"open": Way.BREAKER_OPEN, "probing": Way.PROBING}


def way_to(destination: Destination | None, gate: Mapping[Any, Any], now: datetime) -> Way:
    """Return how the way to a destination is.

    Args:
        destination: as it is configured; None where it is not.
        gate: the row of its gate; empty where there is none yet.
    """
    if destination is None:
        return Way.NOT_CONFIGURED
    if gate.get("state") == HELD:
        return Way.HELD
    if gate.get("breaker") in _OF_BREAKERS:
        return _OF_BREAKERS[gate["breaker"]]
    return Way.OPEN if paused_until(destination, gate, now) is None else Way.PAUSED


def paused_until(destination: Destination, gate: Mapping[Any, Any], now: datetime) -> datetime | None:
    """Return when the pause ends that the calendar makes or the destination has asked for; None outside."""
    asked_for = gate.get("paused_until")
    ends = [paused_by_calendar(destination.pauses, now), asked_for if asked_for and asked_for > now else None]
    return max((end for end in ends if end is not None), default=None)


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """How one destination stands.

    Attributes:
        configured: as it is configured; None where it is not.
        gate: the row of its gate; empty where there is none yet.
        paused_until: when the pause ends that it is in; None outside of one.
        paused_operations: when the pauses of some operations alone end.
        in_use: how many slots of the window engines hold.
        finished: how many messages are in each state, finished ones too; empty where they were not counted.
    """

    name: str
    configured: Destination | None
    gate: Mapping[Any, Any]
    way: Way
    paused_until: datetime | None
    paused_operations: Mapping[str, datetime]
    in_use: int
    standing: Standing
    delivered_per_minute: float
    failed_per_minute: float
    finished: Mapping[str, int]

    @property
    def window(self) -> int | None:
        """How many requests may be under way at once: as configured, unless it was adapted since."""
        if self.configured is None:
            return None
        limit = limited(self.configured, self.limits).window
        return min(self.gate.get("window") or limit, limit)

    @property
    def limits(self) -> Limits:
        """What a person has set, below the configuration's limits."""
        return limits_of(self.gate)

    @property
    def next_probe_at(self) -> datetime | None:
        """When the breaker lets the next request through, while it lets none through."""
        by_the_service = self.way is Way.HELD and self.gate["changed_by"] == THE_SERVICE
        if by_the_service or self.way in _OF_BREAKERS.values():
            return self.gate["probe_at"]  # type: ignore[no-any-return]
        return None

    @property
    def rate(self) -> Rate | None:
        """How many requests are let through per time at most; None where that is not limited."""
        return None if self.configured is None else limited(self.configured, self.limits).rate


@dataclass(frozen=True, slots=True)
class Status:
    """How everything stands.

    Attributes:
        now: the moment of it all.
        rates_over: the time that the numbers per minute are of.
        has_totals: whether the finished messages were counted too.
        lag: what a search does not find yet.
    """

    now: datetime
    destinations: Sequence[DestinationStatus]
    rates_over: timedelta
    has_totals: bool
    incidents: Sequence[Row]
    lag: Lag = NO_LAG


def look_at(
    transaction: Transaction, destinations: Mapping[str, Destination], with_totals: bool = False
) -> Status:
    """Return how every destination stands that is configured or has messages.

    Args:
        destinations: those configured.
        with_totals: whether to count the finished too, which reads every message there is.
    """
    stands, gate_of, in_use = standing(transaction), gates(transaction), slots_in_use(transaction)
    latest = latest_attempts(transaction)
    finished = totals(transaction) if with_totals else {}
    minutes = latest.span / timedelta(minutes=1)

    def status_of(name: str) -> DestinationStatus:
        configured = destinations.get(name)
        gate: Mapping[Any, Any] = gate_of.get(name, {})
        attempts = latest.of.get(name, Attempts())
        return DestinationStatus(
            name,
            configured,
            gate,
            way_to(configured, gate, transaction.now),
            None if configured is None else paused_until(configured, gate, transaction.now),
            {} if configured is None else paused_operations(configured.pauses, transaction.now),
            in_use.get(name, 0),
            stands.get(name, Standing()),
            attempts.delivered / minutes,
            attempts.failed / minutes,
            finished.get(name, {}),
        )

    names = sorted({*destinations, *stands, *finished})
    shown = [status_of(name) for name in names]
    return Status(
        transaction.now, shown, latest.span, with_totals, open_incidents(transaction), lag(transaction)
    )
