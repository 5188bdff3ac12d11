"""Looking things up for people: messages, their whole life, dead letters and incidents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, RowMapping, Select, and_, select, true

from orderflow_outbox import State
from orderflow_outbox.tables import attempt, audit, body, dead_letter, edit, incident, item, message

from .burying import is_open
from .children import identities_of_children
from .leasing import is_pending
from .transactions import Transaction

Row: TypeAlias = Mapping[Any, Any]
"""A row of the database by the names of its columns, or a view of one."""

LOOKED_FOR_CHILDREN = 10
"""A message has two at most; others may have had their identity before."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages: by id, or by what they share. Everything given must hold."""

    ids: Sequence[int] = ()
    destination: str | None = None
    operation: str | None = None
    reason: str | None = None
    since: datetime | None = None
    incident: int | None = None

    @property
    def is_empty(self) -> bool:
        return not self.ids and not self.is_shared

    @property
    def is_shared(self) -> bool:
        """Whether it names what messages share."""
        return any((self.destination, self.operation, self.reason, self.since, self.incident))

    def on(self, moment: ColumnElement[Any], reason: ColumnElement[Any]) -> ColumnElement[bool]:
        """Return the condition; `moment` is what `since` compares, `reason` where the reason stands."""
        conditions: list[ColumnElement[bool]] = [true()]
        if self.ids:
            conditions.append(message.c.id.in_(self.ids))
        if self.destination:
            conditions.append(message.c.destination == self.destination)
        if self.operation:
            conditions.append(message.c.operation == self.operation)
        if self.since:
            conditions.append(moment >= self.since)
        if self.reason:
            conditions.append(reason == self.reason)
        if self.incident:
            of_it = select(dead_letter.c.message_id).where(dead_letter.c.incident_id == self.incident)
            conditions.append(message.c.id.in_(of_it))
        return and_(*conditions)


def dead_letters(
    transaction: Transaction, filter: Filter, limit: int | None = None, skip: int = 0
) -> list[RowMapping]:
    """Return open dead letters with their messages, the newest death first.

    Args:
        skip: leave out so many of the newest.
    """
    statement: Select[Any] = (
        select(
            dead_letter.c.message_id,
            message.c.destination,
            message.c.operation,
            message.c.key,
            message.c.attempts,
            dead_letter.c.reason,
            dead_letter.c.text,
            dead_letter.c.in_doubt,
            dead_letter.c.died_at,
        )
        .join_from(dead_letter, message)
        .where(
            is_open,
            filter.on(dead_letter.c.died_at, dead_letter.c.reason),
        )
        .order_by(dead_letter.c.died_at.desc(), dead_letter.c.message_id.desc())
        .limit(limit)
        .offset(skip or None)
    )
    return list(transaction.connection.execute(statement).mappings().all())


def pending_ids(transaction: Transaction, filter: Filter) -> list[int]:
    """Return the ids of pending messages; their reason is that of the last attempt."""
    last_reason = (
        select(attempt.c.reason)
        .where(attempt.c.message_id == message.c.id, attempt.c.n == message.c.attempts)
        .scalar_subquery()
    )
    statement = (
        select(message.c.id)
        .where(is_pending, filter.on(message.c.created_at, last_reason))
        .order_by(message.c.id)
    )
    return list(transaction.connection.execute(statement).scalars())


def message_row(transaction: Transaction, message_id: int) -> RowMapping | None:
    """Return a message's row, None where there is none."""
    return (
        transaction.connection.execute(select(message).where(message.c.id == message_id))
        .mappings()
        .one_or_none()
    )


@dataclass(frozen=True, slots=True)
class Life:
    """A message's whole life.

    Attributes:
        difference: what was edited before it was sent in place of the one that it replays.
        difference_of_replay: what was edited before its replay was sent in its place.
    """

    message: Row
    body: Row
    attempts: Sequence[Row]
    items: Sequence[Row]
    dead_letter: Row | None
    replay: int | None
    children: Sequence[int]
    elder: int | None
    audit: Sequence[Row]
    difference: str | None
    difference_of_replay: str | None


def life_of(transaction: Transaction, message_id: int) -> Life | None:
    """Return everything known of a message, None where there is none."""
    connection = transaction.connection
    row = message_row(transaction, message_id)
    if row is None:
        return None
    replay = connection.execute(
        select(message.c.id).where(message.c.replay_of == message_id)
    ).scalar_one_or_none()
    return Life(
        message=row,
        body=connection.execute(select(body).where(body.c.message_id == message_id)).mappings().one(),
        attempts=_all(
            transaction, select(attempt).where(attempt.c.message_id == message_id).order_by(attempt.c.n)
        ),
        items=_all(
            transaction,
            select(item).where(item.c.message_id == message_id).order_by(item.c.n, item.c.place),
        ),
        dead_letter=connection.execute(select(dead_letter).where(dead_letter.c.message_id == message_id))
        .mappings()
        .one_or_none(),
        replay=replay,
        children=_children_of(transaction, row),
        elder=_elder_of(transaction, row),
        audit=_all(transaction, select(audit).where(audit.c.message_id == message_id).order_by(audit.c.id)),
        difference=_difference_of(transaction, message_id),
        difference_of_replay=None if replay is None else _difference_of(transaction, replay),
    )


def _difference_of(transaction: Transaction, message_id: int) -> str | None:
    return transaction.connection.scalar(select(edit.c.difference).where(edit.c.message_id == message_id))


def _children_of(transaction: Transaction, row: RowMapping) -> Sequence[int]:
    """Return the messages that items of this one became, which are found by their identity."""
    identities = list(islice(identities_of_children(row["idempotency_key"]), LOOKED_FOR_CHILDREN))
    statement = select(message.c.id).where(
        message.c.destination == row["destination"],
        message.c.idempotency_key.in_(identities),
        message.c.replay_of.is_(None),
        message.c.split_from == row["id"],
    )
    return transaction.connection.execute(statement.order_by(message.c.id)).scalars().all()


def _elder_of(transaction: Transaction, row: RowMapping) -> int | None:
    """Return the message that a pending one waits for."""
    if row["key"] is None or row["state"] != State.PENDING:
        return None
    return transaction.connection.execute(
        select(message.c.id)
        .where(
            message.c.destination == row["destination"],
            message.c.key == row["key"],
            message.c.blocks,
            message.c.position < row["position"],
        )
        .order_by(message.c.position)
        .limit(1)
    ).scalar_one_or_none()


def open_incidents(transaction: Transaction) -> list[RowMapping]:
    """Return incidents not resolved, the newest first."""
    return _all(
        transaction,
        select(incident).where(incident.c.resolved_at.is_(None)).order_by(incident.c.opened_at.desc()),
    )


def _all(transaction: Transaction, statement: Select[Any]) -> list[RowMapping]:
    return list(transaction.connection.execute(statement).mappings().all())
