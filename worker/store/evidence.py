"""What an alert tells of an incident beside its own row: open letters, keys, and a reply as a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, select

from orderflow_outbox.tables import attempt, body, dead_letter, message
from worker.excerpts import cut_text, excerpt

from .burying import is_open
from .transactions import Transaction

MAX_KEYS = 5
LOOKED_FOR_KEYS = 25
"""Letters that are looked at for as many keys as are told: some share one."""


@dataclass(frozen=True, slots=True)
class Letters:
    """The open dead letters of an incident.

    Attributes:
        keys: some of those affected, the newest message's first.
        oldest_at: when the first of them died; None where none is open.
    """

    open: int
    in_doubt: int
    keys: Sequence[str]
    oldest_at: datetime | None


NO_LETTERS = Letters(0, 0, (), None)


@dataclass(frozen=True, slots=True)
class SampleReply:
    """What the receiver answered to the last attempt, in part; without credentials and payload."""

    status: int
    text: str


def letters_of(transaction: Transaction, incident_id: int) -> Letters:
    """Return the open letters of an incident."""
    of = dead_letter.c.incident_id == incident_id, is_open
    counted = transaction.connection.execute(
        select(
            func.count(),
            func.sum(case((dead_letter.c.in_doubt, 1), else_=0)),
            func.min(dead_letter.c.died_at),
        ).where(*of)
    ).one()
    keys: list[str] = []
    if counted[0]:
        newest = (
            select(message.c.key)
            .join_from(dead_letter, message)
            .where(*of, message.c.key.is_not(None))
            .order_by(dead_letter.c.message_id.desc())
            .limit(LOOKED_FOR_KEYS)
        )
        keys = list(dict.fromkeys(transaction.connection.execute(newest).scalars()))[:MAX_KEYS]
    return Letters(counted[0], counted[1] or 0, keys, counted[2])


@dataclass(frozen=True, slots=True)
class Sample:
    """One of the messages that an incident is about.

    Attributes:
        text: what is said of it, without payload.
    """

    key: str | None
    text: str
    reply: SampleReply | None


def sample_of(transaction: Transaction, message_id: int | None, text: str) -> Sample:
    """Return a message's key and what its last attempt was answered, as far as there are any.

    Args:
        text: what is said of it, which may have been lifted from that answer.
    """
    row = transaction.connection.execute(
        select(message.c.key, attempt.c.status, attempt.c.reply_body, body.c.payload)
        .join_from(message, body, body.c.message_id == message.c.id)
        .outerjoin(attempt, (attempt.c.message_id == message.c.id) & (attempt.c.n == message.c.attempts))
        .where(message.c.id == message_id)
    ).one_or_none()
    if row is None:
        return Sample(None, text, None)
    if row.status is None:
        return Sample(row.key, text, None)
    reply = SampleReply(row.status, excerpt(row.reply_body or b"", row.payload))
    return Sample(row.key, cut_text(text, row.payload), reply)
