"""Open dead letters, for whoever goes through many: how many there are, and what some of them are about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, select, true

from orderflow_outbox.tables import body, dead_letter, message

from .burying import is_open
from .finding import Filter
from .transactions import Transaction


def number_of(transaction: Transaction, filter: Filter, until: datetime | None = None) -> int:
    """Return how many open dead letters there are of a kind.

    Args:
        until: those alone that had died by then.
    """
    statement = select(func.count()).select_from(dead_letter).join(message).where(_open(filter, until))
    return int(transaction.connection.execute(statement).scalar_one())


def numbers_of(
    transaction: Transaction, filter: Filter, until: datetime, after: int, limit: int
) -> Sequence[int]:
    """Return the messages of open dead letters of a kind, in order of their numbers.

    Args:
        until: those alone that had died by then.
        after: those alone whose number is higher.
    """
    statement = (
        select(dead_letter.c.message_id)
        .join_from(dead_letter, message)
        .where(_open(filter, until), dead_letter.c.message_id > after)
        .order_by(dead_letter.c.message_id)
        .limit(limit)
    )
    return transaction.connection.scalars(statement).all()


def _open(filter: Filter, until: datetime | None) -> ColumnElement[bool]:
    died = true() if until is None else dead_letter.c.died_at <= until
    return and_(is_open, died, filter.on(dead_letter.c.died_at, dead_letter.c.reason))


def small_documents(transaction: Transaction, ids: Sequence[int], most_bytes: int) -> dict[int, bytes | None]:
    """Return documents of messages, None where one has none; those above `most_bytes` are left out."""
    statement = select(body.c.message_id, body.c.payload).where(
        body.c.message_id.in_(ids), func.coalesce(func.length(body.c.payload), 0) <= most_bytes
    )
    return {row.message_id: row.payload for row in transaction.connection.execute(statement)}
