"""Limiting a destination by hand, below what its configuration allows, and leaving it to that again."""

from __future__ import annotations

from typing import Any

from config import Destination

from .by_hand import NotPossible
from .limits import Limits
from .store import gates
from .store.resolving import note_audit
from .store.transactions import Store


def limit(store: Store, destination: str, configured: Destination, limits: Limits, by: str, why: str) -> None:
    """Have engines send to a destination no more than this, from the next time they ask its gate.

    Args:
        configured: its limits by the configuration, which stay the highest.
        limits: those to set; without any, the configuration's alone count again.

    Raises:
        NotPossible: one is above the configuration's.
    """
    if limits.window is not None and limits.window > configured.window:
        raise NotPossible(
            f"the window of {destination} is {configured.window} by its configuration: "
            "give a lower one here, or a higher one there"
        )
    highest = configured.rate
    if limits.rate is not None and highest is not None and limits.rate.per_second > highest.per_second:
        raise NotPossible(
            f"the rate of {destination} is {highest} by its configuration: "
            "give a lower one here, or a higher one there"
        )
    with store.writing() as transaction:
        before = gates.limit(transaction, destination, limits)
        detail = {"before": _told(before), "after": _told(limits)}
        note_audit(transaction, verb="limit", by=by, why=why, destination=destination, detail=detail)


def _told(limits: Limits) -> dict[str, Any]:
    return {"window": limits.window, "rate": None if limits.rate is None else str(limits.rate)}
