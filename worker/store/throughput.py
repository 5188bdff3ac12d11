"""How many attempts there were over a span of time, how they ended and how long they took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import FunctionElement, Integer, case, func, not_, select
from sqlalchemy.ext.compiler import compiles

from orderflow_outbox.states import RELEASED
from orderflow_outbox.tables import attempt

from .transactions import Transaction

MOST_ATTEMPTS = 50_000
"""So many attempts are counted at most, the latest: where there were more, a chart begins later."""
NEARLY_ALL = 20
"""All but one of so many attempts took no longer than is told as `slow`."""

_DELIVERED = "delivered"  # a verdict, in the log of attempts


class seconds_since_1970(FunctionElement[int]):  # noqa: N801 (named as an SQL function)
    """The whole seconds from 1970 to a moment."""

    type = Integer()
    inherit_cache = True


@compiles(seconds_since_1970, "postgresql")
def _postgresql(element: seconds_since_1970, compiler: Any, **how: Any) -> str:
    (moment,) = (compiler.process(each, **how) for each in element.clauses)
    return f"CAST(FLOOR(EXTRACT(EPOCH FROM {moment})) AS BIGINT)"


@compiles(seconds_since_1970, "sqlite")
def _sqlite(element: seconds_since_1970, compiler: Any, **how: Any) -> str:
    (moment,) = (compiler.process(each, **how) for each in element.clauses)
    return f"CAST(strftime('%s', {moment}) AS INTEGER)"


@dataclass(frozen=True, slots=True)
class Slot:
    """The attempts that ended within one slot of time.

    Attributes:
        begins: when it does; it lasts as long as every slot.
        middle: seconds that half of the attempts took no longer than; None where that is not known.
        slow: seconds that nearly all of them took no longer than.
    """

    begins: datetime
    delivered: int = 0
    failed: int = 0
    middle: float | None = None
    slow: float | None = None


@dataclass(frozen=True, slots=True)
class Throughput:
    """Slots side by side, those without attempts too.

    Attributes:
        counted_since: from when on attempts were counted; None where all of the span were.
    """

    width: timedelta
    slots: Sequence[Slot]
    counted_since: datetime | None


def throughput(
    transaction: Transaction, span: timedelta, width: timedelta, most: int = MOST_ATTEMPTS
) -> Throughput:
    """Return the attempts of a span that ends now, in slots.

    Args:
        width: of a slot; the last one is not over yet.
        most: how many attempts are counted.
    """
    step = int(width.total_seconds())
    last = int(transaction.now.timestamp()) // step
    first = last - int(span / width) + 1
    begins = datetime.fromtimestamp(first * step, UTC)
    known = {row.slot: row for row in _rows(transaction, begins, step, most)}
    oldest = min((row.since for row in known.values()), default=None)
    is_cut = sum(row.number for row in known.values()) >= most
    slots = [_slot(n, step, known.get(n)) for n in range(first, last + 1)]
    return Throughput(width, slots, oldest if is_cut else None)


def _slot(number: int, step: int, row: Any) -> Slot:
    begins = datetime.fromtimestamp(number * step, UTC)
    return Slot(begins) if row is None else Slot(begins, row.delivered, row.failed, row.middle, row.slow)


def _rows(transaction: Transaction, since: datetime, step: int, most: int) -> Sequence[Any]:
    latest = (
        select(attempt.c.finished_at, attempt.c.verdict, attempt.c.seconds)
        .where(attempt.c.finished_at >= since)
        .order_by(attempt.c.finished_at.desc())
        .limit(most)
        .subquery()
    )
    slot = (seconds_since_1970(latest.c.finished_at) // step).label("slot")
    slotted = select(latest, slot).subquery()
    timed = slotted.c.seconds.is_(None)
    together: dict[str, Any] = {"partition_by": [slotted.c.slot, timed]}
    place = func.row_number().over(**together, order_by=slotted.c.seconds).label("place")
    ranked = select(slotted, place, func.count().over(**together).label("of")).subquery()
    half, nearly = (ranked.c.of + 1) // 2, ranked.c.of - ranked.c.of // NEARLY_ALL
    delivered = ranked.c.verdict == _DELIVERED
    statement = select(
        ranked.c.slot,
        func.count().label("number"),
        func.count().filter(delivered).label("delivered"),
        func.count().filter(not_(delivered), ranked.c.verdict != RELEASED).label("failed"),
        func.max(case((ranked.c.place == half, ranked.c.seconds))).label("middle"),
        func.max(case((ranked.c.place == nearly, ranked.c.seconds))).label("slow"),
        func.min(ranked.c.finished_at).label("since"),
    ).group_by(ranked.c.slot)
    return transaction.connection.execute(statement).all()
