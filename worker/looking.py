"""One look at the outbox: what is due, and a lease on as much of it as there is room for."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from config import Configuration, Pause, paused_operations

from .deliveries import Claim
from .failpoints import Failpoint, come_by
from .frontier import Frontier
from .gate import opens_at, paused_by_calendar
from .store import gates
from .store.claiming import claim, next_due
from .store.obsolescence import SupersededBy, outdated
from .store.recording import retire
from .store.transactions import Store, Transaction

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
        shut: destinations that get nothing now but a probe, which is not this engine's to make.
        wait: seconds until the next message is due, at most those given.
    """

    claims: list[Claim] = field(default_factory=list)
    lease_ends: float = 0.0
    full: frozenset[str] = frozenset()
    shut: frozenset[str] = frozenset()
    wait: float = 1.0


class Looker:
    """Looks for one engine; to be called from one thread.

    Args:
        store: the engine's own.
        lease: how long what is claimed is held.
        superseded_by: by an operation, those whose later messages make its own obsolete.
        pauses: of destinations, by the calendar.
        engine: the name that this engine makes probes by.
        quarantined: whether it looks for what is in quarantine, instead of all else.
        longest_wait: seconds until the next look when nothing is due.
        monotonic: the process's clock, by which leases are watched.
    """

    def __init__(
        self,
        store: Store,
        lease: timedelta,
        superseded_by: SupersededBy = MappingProxyType({}),
        pauses: Mapping[str, Sequence[Pause]] = MappingProxyType({}),
        engine: str = "",
        quarantined: bool = False,
        longest_wait: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._lease = lease
        self._superseded_by = superseded_by
        self._pauses = pauses
        self._engine = engine
        self._quarantined = quarantined
        self._longest_wait = longest_wait
        self._monotonic = monotonic
        self._frontier = Frontier()

    @classmethod
    def by(
        cls,
        configuration: Configuration,
        store: Store,
        engine: str = "",
        quarantined: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Looker:
        """Return one that looks as the configuration says."""
        return cls(
            store,
            configuration.settings.engine.lease,
            configuration.catalogue.superseded_by,
            {name: each.pauses for name, each in configuration.destinations.items()},
            engine,
            quarantined,
            monotonic=monotonic,
        )

    def look(self, room: Mapping[str, int], *, expecting: bool = False) -> Look:
        """Claim due messages of the destinations in `room`, up to the number given for each.

        Of those with no room at all it is only told whether anything is due.

        Args:
            expecting: whether something is known to be due, as after a hint: it is claimed at once. Otherwise
                a read comes first: an idle engine never asks for the write lock.
        """
        begun = self._monotonic()
        self._frontier.begin(begun)
        look = self._claim_at_once(room, begun) if expecting else None
        if look is None:
            look = self._look_first(room, begun)
        if look.claims:
            come_by(Failpoint.AFTER_CLAIM_COMMITS)
        ended = self._monotonic()
        self._frontier.end(ended, ended - begun)
        return look

    def _claim_at_once(self, room: Mapping[str, int], begun: float) -> Look | None:
        """Claim by statements that look at the gates themselves; return None where nothing was to be had."""
        with self._store.writing() as transaction:
            names = [
                name for name, number in room.items() if number and not self._is_paused(name, transaction)
            ]
            look = self._claimed(transaction, names, room, begun, unless_shut=True)
            if not look.claims:
                return None
            others = [name for name, number in room.items() if not number]
            opens, shut = self._what_is_open(transaction, others)
            open_now = [name for name, moment in opens.items() if moment <= transaction.now]
            without_room = frozenset(name for name in open_now if self._wait(transaction, name) <= 0)
        return replace(look, full=look.full | without_room, shut=shut)

    def _is_paused(self, name: str, transaction: Transaction) -> bool:
        return paused_by_calendar(self._pauses.get(name, ()), transaction.now) is not None

    def _look_first(self, room: Mapping[str, int], begun: float) -> Look:
        waits, shut = self._what_is_due(room)
        room = {name: 0 if name in shut else number for name, number in room.items()}
        due = [name for name, wait in waits.items() if wait <= 0]
        without_room = frozenset(name for name in due if not room[name])
        names = [name for name in waits if room[name]]
        if any(room[name] for name in due):
            look = self._claim(names, room, begun)
            look = replace(look, full=look.full | without_room)
        else:
            wait = min((wait for wait in waits.values() if wait > 0), default=self._longest_wait)
            look = Look(full=without_room, wait=min(wait, self._longest_wait))
        return replace(look, shut=shut)

    def _what_is_due(self, destinations: Collection[str]) -> tuple[dict[str, float], frozenset[str]]:
        """Return, by destination, the seconds until something may be sent, and which ones are shut.

        Those that nobody may send to before a person says so are left out.
        """
        with self._store.reading() as transaction:
            now = transaction.now
            opens, shut = self._what_is_open(transaction, destinations)
            waits = {
                name: self._wait(transaction, name) if moment <= now else (moment - now).total_seconds()
                for name, moment in opens.items()
            }
        return waits, shut

    def _what_is_open(
        self, transaction: Transaction, destinations: Collection[str]
    ) -> tuple[dict[str, datetime], frozenset[str]]:
        """Return from when on each destination may be sent to, and which ones are shut to this engine."""
        opens: dict[str, datetime] = {}
        shut: set[str] = set()
        if not destinations:
            return opens, frozenset(shut)
        now = transaction.now
        for name, gate in gates.read(transaction, destinations).items():
            pauses = self._pauses.get(name, ())
            moment = opens_at(gate, self._engine, now, pauses)
            opens[name] = now + timedelta(seconds=self._longest_wait) if moment is None else moment
            paused = self._is_paused(name, transaction)
            if (paused or gate.is_shut(now)) and gate.prober != self._engine:
                shut.add(name)
        return opens, frozenset(shut)

    def _wait(self, transaction: Transaction, name: str) -> float:
        """Return the seconds until the next message of a destination is due; none when it is by now."""
        due_at, now = (
            next_due(transaction, name, self._frontier.since(name), self._quarantined),
            transaction.now,
        )
        self._frontier.met(name, min(due_at or now, now))
        return self._longest_wait if due_at is None else (due_at - now).total_seconds()

    def _claim(self, names: Sequence[str], room: Mapping[str, int], begun: float) -> Look:
        with self._store.writing() as transaction:
            return self._claimed(transaction, names, room, begun)

    def _claimed(
        self,
        transaction: Transaction,
        names: Sequence[str],
        room: Mapping[str, int],
        begun: float,
        unless_shut: bool = False,
    ) -> Look:
        claimed = {
            name: claim(
                transaction,
                name,
                room[name],
                self._lease,
                self._frontier.since(name),
                paused_operations(self._pauses.get(name, ()), transaction.now),
                unless_shut,
                self._quarantined,
            )
            for name in names
        }
        for name, one in claimed.items():
            if one.earliest is not None:
                self._frontier.met(name, one.earliest)
        claims = [each for one in claimed.values() for each in one.claims]
        if claims:
            come_by(Failpoint.BEFORE_CLAIM_COMMITS)
        over = outdated(transaction, claims, self._superseded_by)
        retire(transaction, [each for each in claims if each.id in over])
        return Look(
            claims=[each for each in claims if each.id not in over],
            lease_ends=begun + self._lease.total_seconds(),
            full=frozenset(name for name, one in claimed.items() if one.more),
            wait=LOOK_AGAIN_SECONDS,
        )
