"""Lists for people to look through: dead letters, incidents, the audit, messages by a word."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, RowMapping, and_, select, true, tuple_, union

from orderflow_outbox.lookup import numbers_of_key
from orderflow_outbox.tables import audit, dead_letter, incident, message, term

from .burying import is_open
from .finding import Filter
from .transactions import Transaction

TERM_NAMES = ("externalReference", "orderNumber", "sku")
"""What a message is looked up by beside its key."""


def dead_page(
    transaction: Transaction, filter: Filter, limit: int, before: tuple[datetime, int] | None = None
) -> Sequence[RowMapping]:
    """Return open dead letters, the newest death first.

    Args:
        before: the death and number of the last one of the page before.
    """
    place = tuple_(dead_letter.c.died_at, dead_letter.c.message_id)
    later: ColumnElement[bool] = true() if before is None else place < before
    statement = (
        select(dead_letter, message.c.destination, message.c.operation, message.c.key, message.c.attempts)
        .join_from(dead_letter, message)
        .where(is_open, later, filter.on(dead_letter.c.died_at, dead_letter.c.reason))
        .order_by(dead_letter.c.died_at.desc(), dead_letter.c.message_id.desc())
        .limit(limit)
    )
    return transaction.connection.execute(statement).mappings().all()


def past_incidents(transaction: Transaction, limit: int, before: int | None = None) -> Sequence[RowMapping]:
    """Return incidents that are over, the newest first.

    Args:
        before: the number of the last one of the page before.
    """
    earlier = true() if before is None else incident.c.id < before
    statement = select(incident).where(incident.c.resolved_at.is_not(None), earlier)
    return (
        transaction.connection.execute(statement.order_by(incident.c.id.desc()).limit(limit)).mappings().all()
    )


def audit_page(
    transaction: Transaction, limit: int, by: str | None, verb: str | None, before: int | None = None
) -> Sequence[RowMapping]:
    """Return who did what, the latest first.

    Args:
        before: the number of the last entry of the page before.
    """
    conditions: list[ColumnElement[bool]] = [true()]
    if by:
        conditions.append(audit.c.by == by)
    if verb:
        conditions.append(audit.c.verb == verb)
    if before is not None:
        conditions.append(audit.c.id < before)
    statement = select(audit).where(and_(*conditions)).order_by(audit.c.id.desc()).limit(limit)
    return transaction.connection.execute(statement).mappings().all()


def look_up(
    transaction: Transaction, words: str, destinations: Collection[str], limit: int
) -> Sequence[RowMapping]:
    """Return messages by a key, a term or an idempotency key that they have, the newest first.

    Args:
        destinations: those of which an idempotency key is looked for.
    """
    connection = transaction.connection
    keyed = select(numbers_of_key(words).c.message_id)
    termed = select(term.c.message_id).where(term.c.name.in_(TERM_NAMES), term.c.value == words)
    named = select(message.c.id).where(
        message.c.destination.in_(destinations),
        message.c.idempotency_key == words,
        message.c.replay_of.is_(None),
    )
    # First the numbers, each by its index: joined, a planner may walk all messages for them.
    found = union(keyed, termed, named).subquery()
    numbers = connection.scalars(
        select(found.c.message_id).order_by(found.c.message_id.desc()).limit(limit)
    ).all()
    statement = select(message).where(message.c.id.in_(numbers)).order_by(message.c.id.desc())
    return connection.execute(statement).mappings().all()
