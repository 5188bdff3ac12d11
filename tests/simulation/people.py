"""The people of a simulated world: a shop that enqueues, and an operator who meddles."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any, Protocol

from sqlalchemy import Connection, Engine

from config import Configuration
from orderflow_outbox import enqueue
from tests.documents import order
from tests.proof.producer import COMMITTED
from worker.by_hand import NotPossible, cancel, discard, hold, resume
from worker.replays.replaying import replay
from worker.store.causes import AlertTimes
from worker.store.transactions import Store
from worker.sweep import sweep

from .clock import Time
from .receiver import POISON, REFUSED_REFERENCE

ROLLED_BACK, HINTED, REPEATED, LATER = 0.1, 0.5, 0.1, 0.1
"""The share of transactions taken back, and told to engines; of messages given twice, and due later."""
OPERATOR = "ann"


class Surroundings(Protocol):
    """What people need of their world."""

    chance: Random
    time: Time
    configuration: Configuration
    outside: Engine

    def note(self, what: str) -> None: ...
    def broken(self, promise: str) -> None: ...
    def wake(self, but: Any = None) -> None: ...


@dataclass
class Shop:
    """Enqueues orders, and keeps a book of what it committed.

    Args:
        world: where it is.
        keys: how many there are; fewer have more messages wait for each other.
        poison: how often an order kills who sends it, to 23 that do not.

    Attributes:
        book: as the checker of the proof reads it.
        references: by identity, the items of what was committed.
    """

    world: Surroundings
    keys: int
    poison: float
    book: list[dict[str, Any]] = field(default_factory=list)
    references: dict[str, list[str]] = field(default_factory=dict)
    _numbers: int = 0

    async def sell(self, seconds: float, transactions: int) -> None:
        """Commit so many transactions, within so many seconds."""
        for moment in sorted(self.world.chance.uniform(0, seconds) for _ in range(transactions)):
            await asyncio.sleep(max(0.0, moment - self.world.time.now))
            self._transact()

    def _transact(self) -> None:
        chance, connection = self.world.chance, self.world.outside.connect()
        with connection, connection.begin() as transaction:
            entries = [self._order(connection) for _ in range(chance.choice((1, 1, 2, 4)))]
            if chance.random() < ROLLED_BACK:
                transaction.rollback()
                self.world.note(f"the shop takes back {[each['identity'] for each in entries]}")
                return
        self.book += entries
        self.world.note(f"the shop commits {[each['identity'] for each in entries]}")
        if chance.random() < HINTED:
            self.world.wake()

    def _order(self, connection: Connection) -> dict[str, Any]:
        self._numbers += 1
        chance, identity = self.world.chance, f"order-{self._numbers}"
        many = (["SO"], [REFUSED_REFERENCE], ["SO", REFUSED_REFERENCE], [POISON])
        kinds = chance.choices(many, (20, 2, 1, self.poison))[0]
        references = [f"{kind}-{self._numbers}" for kind in kinds]
        document = order(*references)
        key = f"order:{chance.randrange(self.keys)}" if chance.random() < 0.8 else None
        to = chance.choice(list(self.world.configuration.destinations))
        later = self.world.time.date() + timedelta(seconds=3 * chance.random())
        for _ in range(2 if chance.random() < REPEATED else 1):
            made = enqueue(
                connection,
                "order-import",
                document,
                destination=to,
                channel="web",
                key=key,
                idempotency_key=identity,
                deliver_after=later if chance.random() < LATER else None,
            )
        self.references[identity] = references
        digest = hashlib.sha256(document.encode()).hexdigest()
        return {"event": COMMITTED, "id": made.id, "identity": identity, "key": key, "sha256": digest}


class Operator:
    """Replays, discards, cancels, holds, resumes and sweeps, now and then.

    Args:
        world: where she is.
    """

    def __init__(self, world: Surroundings) -> None:
        self._world = world
        self._store = Store(world.outside)

    async def meddle(self, seconds: float, times: int) -> None:
        """Do so many things, within so many seconds."""
        chance = self._world.chance
        acts = (
            self._replay,
            self._replay,
            self._replay,
            self._discard,
            self._cancel,
            self._hold,
            self._sweep,
        )
        for moment in sorted(chance.uniform(0, seconds) for _ in range(times)):
            await asyncio.sleep(max(0.0, moment - self._world.time.now))
            with suppress(NotPossible):
                chance.choice(acts)()
            if chance.random() < 0.7:
                self.resume_all()

    def resume_all(self) -> None:
        """Resume every destination that is held."""
        for name in self._chosen("SELECT destination FROM outbox_gate WHERE state = 'held'"):
            self._world.note(f"{name} is resumed")
            resume(self._store, name, OPERATOR, "it goes on")

    def _chosen(self, question: str) -> list[Any]:
        with self._world.outside.connect() as connection:
            return list(connection.exec_driver_sql(question).scalars())

    def _one(self, question: str) -> Any:
        found = self._chosen(question)
        if not found:
            raise NotPossible("there is none")
        return self._world.chance.choice(found)

    def _replay(self) -> None:
        number = self._one("SELECT message_id FROM outbox_dead_letter WHERE resolution = 'open'")
        self._world.note(f"message {number} is replayed")
        replay(self._store, number, OPERATOR, "mended")

    def _discard(self) -> None:
        number = self._one("SELECT message_id FROM outbox_dead_letter WHERE resolution = 'open'")
        self._world.note(f"message {number} is discarded")
        discard(self._store, number, OPERATOR, "not wanted")

    def _cancel(self) -> None:
        number = self._one("SELECT id FROM outbox_message")
        self._world.note(f"message {number} is cancelled")
        cancel(self._store, number, OPERATOR, "not wanted")

    def _hold(self) -> None:
        name = self._world.chance.choice(list(self._world.configuration.destinations))
        self._world.note(f"{name} is held")
        hold(self._store, name, OPERATOR, "they are at work there")

    def _sweep(self) -> None:
        alerts = self._world.configuration.settings.alerts
        times = AlertTimes(alerts.grouping, alerts.reminder)
        self._world.note(f"swept: {sweep(self._store, self._world.configuration, times)}")
