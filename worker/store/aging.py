"""Messages that have waited for most of their life: told of before they end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Boolean, ColumnElement, FunctionElement, and_, func, literal, or_, select, update
from sqlalchemy.ext.compiler import compiles

from orderflow_outbox.tables import incident, message

from .burying import AlertTimes, note_incident
from .claiming import is_due, is_parked, is_sending
from .transactions import Transaction

EXPIRING = "expiring"
"""The cause of an incident about messages that will end soon, and its reason."""


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


def older_than(
    ages: Mapping[str, Ages], default: timedelta, now: datetime, share: float = 1.0
) -> ColumnElement[bool]:
    """Return the condition that a message has lived for a share of its largest age.

    Args:
        ages: by destination.
        default: the largest age where the destination is not known.
    """
    return or_(
        *(and_(message.c.destination == name, _too_old(each, now, share)) for name, each in ages.items()),
        and_(message.c.destination.not_in(list(ages)), message.c.created_at <= now - share * default),
    )


def past_end(ages: Mapping[str, Ages], default: timedelta, now: datetime) -> ColumnElement[bool]:
    """Return the condition that a message is past the end of its life; for the arguments see `older_than`."""
    ends = func.coalesce(message.c.expires_at <= now, False)
    return or_(ends, older_than(ages, default, now))


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


def lives_of_the_waiting(
    transaction: Transaction, ages: Mapping[str, Ages], default: timedelta, share: float
) -> Lives:
    """Return what has lived for a share of its life, parked and held messages included.

    What is being sent counts too, since it may wait again; of that nothing is told to be past its end.

    Args:
        ages: by destination.
        default: the largest age where the destination is not known.
        share: from 0 to 1.
    """
    now = transaction.now
    moment = literal(now, message.c.created_at.type)
    near = or_(
        has_lived(message.c.created_at, message.c.expires_at, literal(share), moment),
        older_than(ages, default, now, share),
    )
    over = past_end(ages, default, now)
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


def told_of(transaction: Transaction) -> dict[tuple[str, str], int]:
    """Return how many aging messages the open incidents tell of, by destination and operation."""
    rows = transaction.connection.execute(
        select(incident.c.destination, incident.c.operation, incident.c.occurrences).where(_is_open)
    )
    return {(row.destination, row.operation): row.occurrences for row in rows}


def tell_of(transaction: Transaction, found: Iterable[tuple[Aging, str]], alert_times: AlertTimes) -> None:
    """Open an incident for aging messages, or have it tell of more; what it told of then is never less.

    Args:
        found: each with the text that is told of it; in order of destination and operation.
    """
    for each, text in found:
        incident_id = note_incident(
            transaction,
            cause=EXPIRING,
            destination=each.destination,
            operation=each.operation,
            reason=EXPIRING,
            text=text,
            message_id=each.first,
            alert_times=alert_times,
            occurrences=0,
        )
        # Not added: another sweep may have told of the same ones.
        transaction.connection.execute(
            update(incident)
            .where(incident.c.id == incident_id, incident.c.occurrences < each.number)
            .values(occurrences=each.number)
        )


def resolve_aging(transaction: Transaction, settled: Sequence[tuple[str, str]]) -> None:
    """Resolve the incidents of destinations and operations of which nothing is aging any more."""
    for destination, operation in sorted(settled):
        transaction.connection.execute(
            update(incident)
            .where(_is_open, incident.c.destination == destination, incident.c.operation == operation)
            .values(resolved_at=transaction.now)
        )


_is_open = and_(incident.c.cause == EXPIRING, incident.c.resolved_at.is_(None))
