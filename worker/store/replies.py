"""Stored replies, each with what was known when it was judged: for judging them again by other rules."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, exists, false, func, or_, select

from orderflow_outbox.tables import attempt, body, item, message
from worker.deliveries import Reply
from worker.verdicts import NOT_MENTIONED

from .finding import Filter
from .transactions import Transaction

BATCH = 500

_before = attempt.alias("before")
_origin = message.alias("origin")
# The doubt before an attempt is that after the one before it; a replay begins with its origin's, and a child
# with its parent's, or with that of items which no report mentioned.
_doubt_before = func.coalesce(
    select(_before.c.in_doubt)
    .where(_before.c.message_id == attempt.c.message_id, _before.c.n < attempt.c.n)
    .order_by(_before.c.n.desc())
    .limit(1)
    .scalar_subquery(),
    select(_origin.c.in_doubt).where(_origin.c.id == message.c.replay_of).scalar_subquery(),
    or_(
        exists().where(_before.c.message_id == message.c.split_from, _before.c.in_doubt),
        exists().where(item.c.message_id == message.c.split_from, item.c.reason == NOT_MENTIONED),
    ),
    false(),
)


@dataclass(frozen=True, slots=True)
class StoredReply:
    """A reply as it was stored, and how it was judged.

    Attributes:
        reply: its stored part.
        is_whole: whether that is all of it, as it was judged.
        payload: what was sent.
        in_doubt: whether an earlier attempt may have been carried out.
        edited: whether the message's document was edited.
        judged_at: when it came.
        items: the verdict on each item, by its place.
    """

    message_id: int
    attempt: int
    destination: str
    operation: str
    reply: Reply
    is_whole: bool
    payload: bytes | None
    in_doubt: bool
    edited: bool
    judged_at: datetime
    verdict: str
    reason: str
    rule: str
    text: str
    items: Mapping[int, str]


def stored_replies(transaction: Transaction, wanted: Filter) -> Iterator[StoredReply]:
    """Yield stored replies in the order of their messages, a bounded batch at a time.

    Args:
        wanted: of which messages, and since when.
    """
    last = (0, 0)
    while True:
        rows = transaction.connection.execute(
            select(
                attempt,
                message.c.destination,
                message.c.operation,
                message.c.edited,
                body.c.payload,
                _doubt_before.label("doubt_before"),
            )
            .join_from(attempt, message)
            .join(body, body.c.message_id == attempt.c.message_id)
            .where(
                attempt.c.status.is_not(None),
                attempt.c.checked_by.is_(None),
                wanted.on(attempt.c.finished_at, attempt.c.reason),
                or_(
                    attempt.c.message_id > last[0],
                    and_(attempt.c.message_id == last[0], attempt.c.n > last[1]),
                ),
            )
            .order_by(attempt.c.message_id, attempt.c.n)
            .limit(BATCH)
        ).all()
        items = _items_of(transaction, [row.message_id for row in rows])
        yield from (_stored(row, items.get((row.message_id, row.n), {})) for row in rows)
        if len(rows) < BATCH:
            return
        last = rows[-1].message_id, rows[-1].n


def last_reply(transaction: Transaction, message_id: int) -> StoredReply | None:
    """Return the reply to a message's last attempt that had one, None where there is none."""
    last = deque(stored_replies(transaction, Filter(ids=(message_id,))), maxlen=1)
    return last[0] if last else None


def _items_of(transaction: Transaction, ids: Sequence[int]) -> Mapping[tuple[int, int], dict[int, str]]:
    found: dict[tuple[int, int], dict[int, str]] = defaultdict(dict)
    statement = select(item.c.message_id, item.c.n, item.c.place, item.c.verdict)
    for row in transaction.connection.execute(statement.where(item.c.message_id.in_(ids))):
        found[row.message_id, row.n][row.place] = row.verdict
    return found


def _stored(row: Row[Any], items: Mapping[int, str]) -> StoredReply:
    headers = tuple((str(name), str(value)) for name, value in row.reply_headers or ())
    return StoredReply(
        message_id=row.message_id,
        attempt=row.n,
        destination=row.destination,
        operation=row.operation,
        reply=Reply(row.status, headers, row.reply_body or b""),
        is_whole=bool(row.reply_complete),
        payload=row.payload,
        in_doubt=row.doubt_before,
        edited=row.edited,
        judged_at=row.finished_at,
        verdict=row.verdict,
        reason=row.reason or "",
        rule=row.rule or "",
        text=row.error or "",
        items=items,
    )
