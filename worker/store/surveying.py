"""Dead letters looked over before they are replayed: a batch at a time, and grouped by their cause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, select

from orderflow_outbox.tables import body, dead_letter, message

from .burying import is_open
from .claiming import has_elder
from .finding import Filter
from .transactions import Transaction

BATCH = 500
MOST_GROUPS = 1000

_replay = message.alias("replay")
_looked_at: Select[Any] = (
    select(
        message.c.id,
        message.c.destination,
        message.c.operation,
        message.c.key,
        message.c.version,
        message.c.state,
        message.c.in_doubt,
        message.c.expires_at,
        dead_letter.c.resolution,
        dead_letter.c.reason,
        _replay.c.id.label("replay"),
        _replay.c.state.label("replay_state"),
        has_elder.label("has_elder"),
    )
    .select_from(message)
    .outerjoin(dead_letter, dead_letter.c.message_id == message.c.id)
    .outerjoin(_replay, _replay.c.replay_of == message.c.id)
    .order_by(message.c.id)
)


def candidates(transaction: Transaction, wanted: Filter) -> Iterator[Sequence[Row[Any]]]:
    """Yield what may be replayed, a bounded batch at a time, in order of the numbers.

    Messages that are named alone come whatever their state; otherwise open dead letters.
    """
    if wanted.ids and not wanted.is_shared:
        ids = sorted(set(wanted.ids))
        for first in range(0, len(ids), BATCH):
            some = message.c.id.in_(ids[first : first + BATCH])
            yield transaction.connection.execute(_looked_at.where(some)).all()
        return
    last, of_them = 0, wanted.on(dead_letter.c.died_at, dead_letter.c.reason)
    while True:
        found = transaction.connection.execute(
            _looked_at.where(is_open, of_them, dead_letter.c.message_id > last).limit(BATCH)
        ).all()
        yield found
        if len(found) < BATCH:
            return
        last = found[-1].id


def documents(transaction: Transaction, ids: Sequence[int]) -> Iterator[tuple[int, bytes | None]]:
    """Yield numbers of messages and their documents, one after the other."""
    found = select(body.c.message_id, body.c.payload).where(body.c.message_id.in_(ids))
    for row in transaction.connection.execute(found, execution_options={"yield_per": 20}):
        yield row.message_id, row.payload


@dataclass(frozen=True, slots=True)
class Group:
    """Open dead letters of one cause.

    Attributes:
        number: how many.
        oldest: when the first of them died.
        newest: when the last of them died.
        in_doubt: how many of them may have been carried out.
        example: one of them.
        text: what that one died of.
    """

    destination: str
    operation: str
    reason: str
    number: int
    oldest: datetime
    newest: datetime
    in_doubt: int
    example: int
    text: str


def groups(transaction: Transaction, wanted: Filter) -> list[Group]:
    """Return open dead letters grouped by destination, operation and reason, the largest group first."""
    of = message.c.destination, message.c.operation, dead_letter.c.reason
    number, example = func.count().label("number"), func.max(dead_letter.c.message_id).label("example")
    grouped = (
        select(
            *of,
            number,
            func.min(dead_letter.c.died_at).label("oldest"),
            func.max(dead_letter.c.died_at).label("newest"),
            func.count().filter(dead_letter.c.in_doubt).label("in_doubt"),
            example,
        )
        .join_from(dead_letter, message)
        .where(is_open, wanted.on(dead_letter.c.died_at, dead_letter.c.reason))
        .group_by(*of)
        .order_by(number.desc(), *of)
        .limit(MOST_GROUPS)
        .subquery()
    )
    rows = transaction.connection.execute(
        select(grouped, dead_letter.c.text)
        .join(dead_letter, dead_letter.c.message_id == grouped.c.example)
        .order_by(grouped.c.number.desc(), grouped.c.destination, grouped.c.operation, grouped.c.reason)
    )
    return [Group(*row) for row in rows]
