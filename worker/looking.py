"""One look at the outbox: what is due, and a lease on as much of it as there is room for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from .deliveries import Claim
from .store.claiming import claim, next_due, open_destinations
from .store.transactions import Store

LOOK_AGAIN_SECONDS = 0.005
"""After a claim the next look, which tells when something is due, follows at once."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found.

    Attributes:
        claims: the messages leased.
        lease_ends: when their leases run out, by the monotonic clock; on the safe side, since it is
            counted from before the claim.
        full: destinations of which more may be due.
        wait: seconds until the next message is due, at most those given.
    """

    claims: list[Claim] = field(default_factory=list)
    lease_ends: float = 0.0
    full: frozenset[str] = frozenset()
    wait: float = 1.0


def look_and_claim(
    store: Store,
    room: Mapping[str, int],
    lease: timedelta,
    monotonic: Callable[[], float],
    longest_wait: float = 1.0,
) -> Look:
    """Claim due messages of the destinations in `room`, up to the number given for each.

    A read comes first: an idle engine never asks for the write lock.
    """
    begun = monotonic()
    with store.reading() as transaction:
        names = open_destinations(transaction, room)
        due_at = next_due(transaction, names)
        wait = longest_wait if due_at is None else (due_at - transaction.now).total_seconds()
    if wait > 0:
        return Look(wait=min(wait, longest_wait))
    with store.writing() as transaction:
        claimed = {name: claim(transaction, name, room[name], lease) for name in names}
    return Look(
        claims=[each for one in claimed.values() for each in one.claims],
        lease_ends=begun + lease.total_seconds(),
        full=frozenset(name for name, one in claimed.items() if one.more),
        wait=LOOK_AGAIN_SECONDS,
    )
