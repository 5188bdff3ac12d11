"""Messages that have waited for most of their life: told of before they end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Boolean, ColumnElement, FunctionElement, and_, func, literal, or_, select, update
from sqlalchemy.ext.compiler import compiles

from orderflow_outbox.tables import incident, message

from .causes import EXPIRING, AlertTimes, note_incident, resolve_where
from .claiming import is_due, is_parked, is_sending
from .transactions import Transaction


class has_lived(FunctionElement[bool]):  # noqa: N801 (named as an SQL function)
    """Whether a moment is past a share of the span between two others: start, end, share, moment."""

    type = Boolean()
    inherit_cache = True


@compiles(has_lived, "postgresql")
def _postgresql(element: has_lived, compiler: Any, **how: Any) -> str:
    start, end, share, moment = (compiler.process(each, **how) for each in element.clauses)
    return f"({start} + ({end} - {start}) * {share} <= {moment})"


@compiles(has_lived, "sqlite")
def _sqlite(element: has_lived, compiler: Any, **how: Any) -> str:
    start, end, share, moment = (compiler.process(each, **how) for each in element.clauses)
    span = f"julianday({end}) - julianday({start})"
    return f"(julianday({start}) + ({span}) * {share} <= julianday({moment}))"


@dataclass(frozen=True, slots=True)
class Ages:
    """The largest age of a destination's messages, and those of operations that have their own."""

    default: timedelta
    by_operation: Mapping[str, timedelta]


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long messages may wait.

    Attributes:
        ages: by destination.
        default: the largest age where the destination is not known.
        warning: the share of a life after which it is warned of, from 0 to 1.
    """

    ages: Mapping[str, Ages]
    default: timedelta
    warning: float


@dataclass(frozen=True, slots=True)
class Aging:
    """Messages of one operation to one destination that wait and will end soon.

    Attributes:
        number: how many.
        first: the number of the one enqueued first.
    """

    destination: str
    operation: str
    number: int
    first: int


@dataclass(frozen=True, slots=True)
class Lives:
    """How far those are that wait.

    Attributes:
        aging: those near their end.
        some_over: whether any is past it.
    """

    aging: Sequence[Aging]
    some_over: bool


def past_end(lifetimes: Lifetimes, now: datetime) -> ColumnElement[bool]:
    """Return the condition that a message is past the end of its life."""
    ends = func.coalesce(message.c.expires_at <= now, False)
    return or_(ends, _older_than(lifetimes, now, 1.0))


def _near_end(lifetimes: Lifetimes, moment: datetime) -> ColumnElement[bool]:
    """Return the condition that a message is to be warned of at a moment, or past its end."""
    at, share = literal(moment, message.c.created_at.type), lifetimes.warning
    lived = has_lived(message.c.created_at, message.c.expires_at, literal(share), at)
    return or_(func.coalesce(lived, False), _older_than(lifetimes, moment, share))


def _older_than(lifetimes: Lifetimes, now: datetime, share: float) -> ColumnElement[bool]:
    known = lifetimes.ages
    return or_(
        *(and_(message.c.destination == name, _too_old(each, now, share)) for name, each in known.items()),
        and_(
            message.c.destination.not_in(list(known)),
            message.c.created_at <= now - share * lifetimes.default,
        ),
    )


def _too_old(ages: Ages, now: datetime, share: float) -> ColumnElement[bool]:
    own = [
        and_(message.c.operation == operation, message.c.created_at <= now - share * age)
        for operation, age in ages.by_operation.items()
    ]
    others = and_(
        message.c.operation.not_in(list(ages.by_operation)),
        message.c.created_at <= now - share * ages.default,
    )
    return or_(others, *own)


def lives_of_the_waiting(transaction: Transaction, lifetimes: Lifetimes) -> Lives:
    """Return what is near the end of its life, parked and held messages included.

    What is being sent counts too, since it may wait again; of that nothing is told to be past its end.
    """
    near, over = _near_end(lifetimes, transaction.now), past_end(lifetimes, transaction.now)
    of = message.c.destination, message.c.operation
    counts = func.count().filter(~over), func.min(message.c.id).filter(~over), func.count().filter(over)
    numbers: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    some_over = False
    # One statement each, since they are answered from partial indexes of their own.
    for state in (is_due, is_parked, is_sending):
        found = transaction.connection.execute(select(*of, *counts).where(state, near).group_by(*of))
        for destination, operation, number, first, ended in found:
            some_over = some_over or (ended > 0 and state is not is_sending)
            if number:
                numbers[destination, operation].append((number, first))
    aging = [
        Aging(*each, sum(number for number, _ in found), min(first for _, first in found))
        for each, found in sorted(numbers.items())
    ]
    return Lives(aging, some_over)


def aging_since(transaction: Transaction, of: Aging, moment: datetime, lifetimes: Lifetimes) -> int:
    """Return how many of one operation's aging messages were not near their end yet at an earlier moment."""
    now = transaction.now
    fresh = and_(
        message.c.destination == of.destination,
        message.c.operation == of.operation,
        _near_end(lifetimes, now),
        ~_near_end(lifetimes, moment),
        ~past_end(lifetimes, now),
    )
    counts = (
        transaction.connection.scalar(select(func.count()).select_from(message).where(state, fresh))
        for state in (is_due, is_parked, is_sending)
    )
    return sum(count or 0 for count in counts)


def told_of(transaction: Transaction) -> dict[tuple[str, str], datetime]:
    """Return up to which moment the open incidents tell of aging messages, by destination and operation."""
    rows = transaction.connection.execute(
        select(incident.c.destination, incident.c.operation, incident.c.updated_at).where(_is_open)
    )
    return {(row.destination, row.operation): row.updated_at for row in rows}


def open_warning(transaction: Transaction, of: Aging, text: str, alert_times: AlertTimes) -> None:
    """Open an incident for aging messages; where another sweep has just done so, it is left at that."""
    incident_id = _note(transaction, of, 0, text, alert_times)
    transaction.connection.execute(
        update(incident)
        .where(incident.c.id == incident_id, incident.c.occurrences == 0)
        .values(occurrences=of.number)
    )


def add_to_warning(
    transaction: Transaction, of: Aging, number: int, text: str, alert_times: AlertTimes
) -> None:
    """Have the open incident tell of so many more."""
    _note(transaction, of, number, text, alert_times)


def _note(transaction: Transaction, of: Aging, number: int, text: str, alert_times: AlertTimes) -> int:
    return note_incident(
        transaction,
        cause=EXPIRING,
        destination=of.destination,
        operation=of.operation,
        reason=EXPIRING,
        text=text,
        message_id=of.first,
        # Its alert waits for no others: a sweep finds them together.
        alert_times=replace(alert_times, grouping=timedelta()),
        occurrences=number,
    )


def lock_told(transaction: Transaction, of: Aging) -> datetime | None:
    """Return up to which moment an operation's open incident tells of aging messages, and lock it."""
    told: datetime | None = transaction.connection.scalar(
        select(incident.c.updated_at)
        .where(_is_open, incident.c.destination == of.destination, incident.c.operation == of.operation)
        .with_for_update()
    )
    return told


def resolve_warnings(transaction: Transaction, settled: Sequence[tuple[str, str]]) -> None:
    """Resolve the incidents of operations of which nothing is aging any more, in the order given."""
    for destination, operation in settled:
        resolve_where(
            transaction,
            and_(_is_open, incident.c.destination == destination, incident.c.operation == operation),
        )


_is_open = and_(incident.c.cause == EXPIRING, incident.c.resolved_at.is_(None))
