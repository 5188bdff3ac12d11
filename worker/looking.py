"""One look at the outbox: what is due, and a lease on as much of it as there is room for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType

from .deliveries import Claim
from .frontier import Frontier
from .store.claiming import claim, next_due, open_destinations
from .store.obsolescence import SupersededBy, outdated
from .store.recording import retire
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


class Looker:
    """Looks for one engine; to be called from one thread.

    Args:
        store: the engine's own.
        lease: how long what is claimed is held.
        superseded_by: by an operation, those whose later messages make its own obsolete.
        longest_wait: seconds until the next look when nothing is due.
        monotonic: the process's clock, by which leases are watched.
    """

    def __init__(
        self,
        store: Store,
        lease: timedelta,
        superseded_by: SupersededBy = MappingProxyType({}),
        longest_wait: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._lease = lease
        self._superseded_by = superseded_by
        self._longest_wait = longest_wait
        self._monotonic = monotonic
        self._frontier = Frontier()

    def look(self, room: Mapping[str, int]) -> Look:
        """Claim due messages of the destinations in `room`, up to the number given for each.

        Of those with no room at all it is only told whether anything is due. A read comes first: an idle
        engine never asks for the write lock.
        """
        begun = self._monotonic()
        self._frontier.begin(begun)
        waits = self._what_is_due(room)
        due = [name for name, wait in waits.items() if wait <= 0]
        without_room = frozenset(name for name in due if not room[name])
        names = [name for name in waits if room[name]]
        if any(room[name] for name in due):
            look = self._claim(names, room, begun)
            look = replace(look, full=look.full | without_room)
        else:
            wait = min((wait for wait in waits.values() if wait > 0), default=self._longest_wait)
            look = Look(full=without_room, wait=min(wait, self._longest_wait))
        ended = self._monotonic()
        self._frontier.end(ended, ended - begun)
        return look

    def _what_is_due(self, room: Mapping[str, int]) -> dict[str, float]:
        """Return, by open destination, the seconds until its first message is due."""
        waits = {}
        with self._store.reading() as transaction:
            for name in open_destinations(transaction, room):
                due_at = next_due(transaction, name, self._frontier.since(name))
                waits[name] = self._longest_wait
                if due_at is not None:
                    waits[name] = (due_at - transaction.now).total_seconds()
                self._frontier.met(name, min(due_at or transaction.now, transaction.now))
        return waits

    def _claim(self, names: list[str], room: Mapping[str, int], begun: float) -> Look:
        with self._store.writing() as transaction:
            claimed = {
                name: claim(transaction, name, room[name], self._lease, self._frontier.since(name))
                for name in names
            }
            claims = [each for one in claimed.values() for each in one.claims]
            over = outdated(transaction, claims, self._superseded_by)
            retire(transaction, [each for each in claims if each.id in over])
        return Look(
            claims=[each for each in claims if each.id not in over],
            lease_ends=begun + self._lease.total_seconds(),
            full=frozenset(name for name, one in claimed.items() if one.more),
            wait=LOOK_AGAIN_SECONDS,
        )
