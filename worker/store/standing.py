"""How things stand: what waits for each destination and for how long, its gate, and its latest attempts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, RowMapping, func, not_, select

from orderflow_outbox import State
from orderflow_outbox.states import RELEASED
from orderflow_outbox.tables import attempt, dead_letter, gate, gate_share, message

from .burying import is_open
from .claiming import is_due, is_parked, is_sending
from .transactions import Transaction

AGES = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(days=1),
    timedelta(days=3),
)
"""What is waiting is counted by age, up to each of these and above the last."""
LATEST = timedelta(minutes=5)
"""How far back attempts are counted."""
LATEST_ATTEMPTS = 20_000
"""So many attempts are counted at most, the latest: where there were more, these tell of a shorter time."""
SHORTEST = timedelta(seconds=1)
"""The shortest time that they tell of: a rate is a number by it."""

_DELIVERED = "delivered"  # a verdict, in the log of attempts


@dataclass(slots=True)
class Standing:
    """What a destination's messages stand at now; the finished ones are not counted.

    Attributes:
        oldest_due_at: since when the one is due that has been for longest.
        oldest_at: when the oldest of those was enqueued that wait or are being sent.
        ages: how many of those there are of each age: up to the first of AGES, the second …, and older.
    """

    pending: int = 0
    due: int = 0
    parked: int = 0
    sending: int = 0
    open_letters: int = 0
    oldest_due_at: datetime | None = None
    oldest_at: datetime | None = None
    ages: list[int] = field(default_factory=lambda: [0] * (len(AGES) + 1))

    def add_ages(self, number: int, oldest_at: datetime, younger: list[int]) -> None:
        """Count messages in.

        Args:
            number: how many.
            younger: how many of them are no older than each of AGES.
        """
        self.oldest_at = min(oldest_at, self.oldest_at or oldest_at)
        for place, (fewer, more) in enumerate(pairwise([0, *younger, number])):
            self.ages[place] += more - fewer


def standing(transaction: Transaction) -> dict[str, Standing]:
    """Return, by destination, how many messages wait or are on somebody's desk.

    Each number comes from an index of what it counts: a long history costs nothing.
    """
    found: defaultdict[str, Standing] = defaultdict(Standing)
    overdue = func.count().filter(message.c.due_at <= transaction.now).label("overdue")
    first_due = func.min(message.c.due_at).label("first_due_at")
    for row in _counted(transaction, found, is_due, overdue, first_due):
        of = found[row.destination]
        of.pending, of.due = row.number, row.overdue
        of.oldest_due_at = row.first_due_at if row.overdue else None
    for row in _counted(transaction, found, is_parked):
        found[row.destination].parked = row.number
        found[row.destination].pending += row.number
    for row in _counted(transaction, found, is_sending):
        found[row.destination].sending = row.number
    letters = select(message.c.destination, func.count()).join_from(dead_letter, message).where(is_open)
    for name, number in transaction.connection.execute(letters.group_by(message.c.destination)):
        found[name].open_letters = number
    return dict(found)


def _counted(
    transaction: Transaction,
    found: Mapping[str, Standing],
    which: ColumnElement[bool],
    *more: ColumnElement[Any],
) -> Sequence[Row[Any]]:
    """Return how many messages there are of each destination, and count their ages in."""
    younger = [func.count().filter(message.c.created_at >= transaction.now - age) for age in AGES]
    statement = select(
        message.c.destination,
        func.count().label("number"),
        func.min(message.c.created_at).label("oldest_at"),
        *(count.label(f"younger_{place}") for place, count in enumerate(younger)),
        *more,
    )
    rows = transaction.connection.execute(statement.where(which).group_by(message.c.destination)).all()
    for row in rows:
        counts = [row._mapping[f"younger_{place}"] for place in range(len(AGES))]
        found[row.destination].add_ages(row.number, row.oldest_at, counts)
    return rows


def totals(transaction: Transaction) -> dict[str, dict[str, int]]:
    """Return, by destination, how many messages are in each state; this reads every message there is."""
    found: defaultdict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(State, 0))
    counted = select(message.c.destination, message.c.state, func.count())
    for name, state, number in transaction.connection.execute(
        counted.group_by(message.c.destination, message.c.state)
    ):
        found[name][state] = number
    return dict(found)


def gates(transaction: Transaction) -> dict[str, RowMapping]:
    """Return every gate, by destination."""
    rows = transaction.connection.execute(select(gate)).mappings()
    return {row["destination"]: row for row in rows}


def slots_in_use(transaction: Transaction) -> dict[str, int]:
    """Return how many slots all engines together hold, by destination; those that lapsed are not counted."""
    statement = (
        select(gate_share.c.destination, func.sum(gate_share.c.slots))
        .where(gate_share.c.until > transaction.now)
        .group_by(gate_share.c.destination)
    )
    return {name: int(slots) for name, slots in transaction.connection.execute(statement)}


class Attempts(NamedTuple):
    """How many attempts ended how; those cut short by a stop are neither."""

    delivered: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Latest:
    """The latest attempts.

    Attributes:
        span: how far back they go.
        of: how many there were, by destination.
    """

    span: timedelta
    of: Mapping[str, Attempts]


def latest_attempts(transaction: Transaction, most: int = LATEST_ATTEMPTS) -> Latest:
    """Return what became of the attempts that ended just now.

    Args:
        most: how many are counted; where there were more, only the latest.
    """
    latest = (
        select(attempt.c.message_id, attempt.c.verdict, attempt.c.finished_at)
        .where(attempt.c.finished_at >= transaction.now - LATEST)
        .order_by(attempt.c.finished_at.desc())
        .limit(most)
        .subquery()
    )
    # One by one, by its number: a planner left to join them may read every message there is.
    destination = select(message.c.destination).where(message.c.id == latest.c.message_id).scalar_subquery()
    of = select(latest, destination.label("destination")).subquery()
    delivered = of.c.verdict == _DELIVERED
    rows = transaction.connection.execute(
        select(
            of.c.destination,
            func.count().label("number"),
            func.count().filter(delivered).label("delivered"),
            func.count().filter(not_(delivered), of.c.verdict != RELEASED).label("failed"),
            func.min(of.c.finished_at).label("since"),
        ).group_by(of.c.destination)
    ).all()
    some_left_out = sum(row.number for row in rows) == most
    span = max(SHORTEST, transaction.now - min(row.since for row in rows)) if some_left_out else LATEST
    return Latest(span, {row.destination: Attempts(row.delivered, row.failed) for row in rows})
