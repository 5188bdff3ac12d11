"""Deleting what has been kept for long enough: messages whole, with all that is stored of them.

Messages are looked at in the order of their numbers, from the first on: no index tells when one ended, and
none need be kept up for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import takewhile
from typing import NamedTuple

from sqlalchemy import and_, bindparam, case, delete, exists, func, select

from orderflow_outbox import State
from orderflow_outbox.tables import (
    attempt,
    audit,
    body,
    dead_letter,
    edit,
    incident,
    item,
    message,
    replay_run,
    replay_run_member,
)

from .burying import is_open
from .erasing import ERASED
from .given import is_given
from .indexing import forget
from .transactions import Transaction

PAGE = 500
"""Messages looked at by one statement."""
RECORDS = 500
"""Rows of the audit, and replay runs, that go by one transaction."""
INCIDENTS = 20
"""Incidents that go by one transaction: for each the database looks through all dead letters."""

ENDS = tuple(each.value for each in (State.DELIVERED, State.SUPERSEDED, State.CANCELLED, State.DEAD))


class Kept(NamedTuple):
    """A message, as far as it matters to how long it is kept.

    Attributes:
        ended_at: since when nothing is left to be done about it; None while something is.
    """

    id: int
    state: str
    replay_of: int | None
    created_at: datetime
    ended_at: datetime | None


_kept = select(
    message.c.id,
    message.c.state,
    message.c.replay_of,
    message.c.created_at,
    # An open letter has no such moment.
    case((message.c.state == State.DEAD.value, dead_letter.c.resolved_at), else_=message.c.finished_at).label(
        "ended_at"
    ),
).select_from(message.outerjoin(dead_letter, dead_letter.c.message_id == message.c.id))
_page = _kept.where(message.c.id > bindparam("after")).order_by(message.c.id).limit(PAGE)
_replays = _kept.where(message.c.replay_of.is_not(None), is_given(message.c.replay_of))
_replies = (
    select(func.coalesce(func.sum(func.length(attempt.c.reply_body)), 0))
    .where(attempt.c.message_id == body.c.message_id)
    .scalar_subquery()
)
_sizes = select(
    body.c.message_id, (func.coalesce(func.length(body.c.payload), 0) + _replies).label("bytes")
).where(is_given(body.c.message_id))


def page(transaction: Transaction, after: int) -> list[Kept]:
    """Return the next messages after a number, in order of their numbers; fewer than `PAGE` are the last."""
    rows = transaction.connection.execute(_page, {"after": after})
    return [Kept(*row) for row in rows]


def replays_of(transaction: Transaction, ids: Collection[int]) -> list[Kept]:
    """Return the messages that replay some others."""
    rows = transaction.connection.execute(_replays, {"ids": ids})
    return [Kept(*row) for row in rows]


def sizes_of(transaction: Transaction, ids: Collection[int]) -> dict[int, int]:
    """Return, by message, how many bytes its document and its replies have."""
    rows = transaction.connection.execute(_sizes, {"ids": ids})
    return {row.message_id: row.bytes for row in rows}


_has_open_letter = exists().where(dead_letter.c.message_id == message.c.id, is_open)
_lock = (
    select(message.c.id)
    .where(is_given(message.c.id), message.c.state.in_(ENDS), ~_has_open_letter)
    .order_by(message.c.id)
    .with_for_update(skip_locked=True, of=message)
)
# Whoever refers to others goes before them.
_deletions = (
    delete(item).where(is_given(item.c.message_id)),
    delete(attempt).where(is_given(attempt.c.message_id)),
    delete(dead_letter).where(is_given(dead_letter.c.message_id)),
    delete(body).where(is_given(body.c.message_id)),
    delete(edit).where(is_given(edit.c.message_id)),
    delete(replay_run_member).where(is_given(replay_run_member.c.message_id)),
    delete(message).where(is_given(message.c.id)),
)


def purge(transaction: Transaction, families: Sequence[Sequence[Kept]]) -> list[Kept]:
    """Delete families of messages, each whole or not at all; return what went.

    What another has in hand is left to it. Nothing goes that has not ended, nor whose dead letter is open,
    whatever the families say.
    """
    ids = [each.id for family in families for each in family]
    locked = set(transaction.connection.scalars(_lock, {"ids": ids}))
    gone = [each for family in families if locked.issuperset(each.id for each in family) for each in family]
    if gone:
        numbers = [each.id for each in gone]
        forget(transaction, numbers)
        for statement in _deletions:
            transaction.connection.execute(statement, {"ids": numbers})
    return gone


_ENDED_RUNS = ("finished", "cancelled")
_run_is_over = and_(
    replay_run.c.state.in_(_ENDED_RUNS),
    replay_run.c.changed_at < bindparam("before"),
    ~exists().where(replay_run_member.c.run_id == replay_run.c.id),
)
_some_runs = select(replay_run.c.id).where(_run_is_over).order_by(replay_run.c.id).limit(RECORDS)
_delete_runs = delete(replay_run).where(is_given(replay_run.c.id))
_count_runs = select(func.count()).select_from(replay_run).where(_run_is_over)
# What was erased is known by its row: that goes no sooner than the message.
_may_go = ~exists().where(message.c.id == audit.c.message_id, audit.c.verb == ERASED)
_oldest_audit = select(audit.c.id, audit.c.at).where(_may_go).order_by(audit.c.id).limit(RECORDS)
_delete_audit = delete(audit).where(is_given(audit.c.id))
_is_over = and_(
    incident.c.resolved_at < bindparam("before"),
    incident.c.alert_due_at.is_(None),
    ~exists().where(dead_letter.c.incident_id == incident.c.id),
)
_some_incidents = select(incident.c.id).where(_is_over).order_by(incident.c.id).limit(INCIDENTS)
_delete_incidents = delete(incident).where(is_given(incident.c.id), incident.c.resolved_at.is_not(None))
_count_audit = select(func.count()).select_from(audit).where(audit.c.at < bindparam("before"), _may_go)
_count_incidents = select(func.count()).select_from(incident).where(_is_over)


def old_audit(transaction: Transaction, before: datetime) -> list[int]:
    """Return some of the audit's rows that were written before a moment and may go, the first ones."""
    rows = transaction.connection.execute(_oldest_audit)
    return [row.id for row in takewhile(lambda row: row.at < before, rows)]


def old_incidents(transaction: Transaction, before: datetime) -> list[int]:
    """Return some incidents that were resolved before a moment, and that no letter kept belongs to."""
    return list(transaction.connection.scalars(_some_incidents, {"before": before}))


def old_runs(transaction: Transaction, before: datetime) -> list[int]:
    """Return some replay runs that ended before a moment, and of which no message is kept."""
    return list(transaction.connection.scalars(_some_runs, {"before": before}))


def purge_runs(transaction: Transaction, ids: Collection[int]) -> int:
    """Delete replay runs; return how many."""
    return transaction.connection.execute(_delete_runs, {"ids": ids}).rowcount


def count_runs(transaction: Transaction, before: datetime) -> int:
    """Return how many replay runs `old_runs` would find in the end; it reads them all."""
    return transaction.connection.scalar(_count_runs, {"before": before}) or 0


def purge_audit(transaction: Transaction, ids: Collection[int]) -> int:
    """Delete rows of the audit; return how many."""
    return transaction.connection.execute(_delete_audit, {"ids": ids}).rowcount


def purge_incidents(transaction: Transaction, ids: Collection[int]) -> int:
    """Delete incidents; return how many."""
    return transaction.connection.execute(_delete_incidents, {"ids": ids}).rowcount


def count_audit(transaction: Transaction, before: datetime) -> int:
    """Return how many rows of the audit `old_audit` would find in the end; it reads them all."""
    return transaction.connection.scalar(_count_audit, {"before": before}) or 0


def count_incidents(transaction: Transaction, before: datetime) -> int:
    """Return how many incidents `old_incidents` would find in the end; it reads them all."""
    return transaction.connection.scalar(_count_incidents, {"before": before}) or 0
