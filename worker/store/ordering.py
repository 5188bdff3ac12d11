"""Order per key: a message waits for every earlier one of its key that blocks.

A waiting message is parked (`due_at` null). Whoever unblocks a key makes its next message due in
the same transaction; the sweep frees any that was missed between two snapshots.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import and_, bindparam, func, select, update

from orderflow_outbox.tables import message

from .claiming import has_elder, is_parked, is_pending
from .transactions import Transaction

BATCH = 500

_first = message.alias("first")

_unpark_next = (
    update(message)
    .where(
        is_pending,
        message.c.due_at.is_(None),
        message.c.destination == bindparam("of_destination"),
        message.c.key == bindparam("of_key"),
        message.c.blocks,
        message.c.position
        == select(func.min(_first.c.position))
        .where(
            _first.c.destination == bindparam("of_destination"),
            _first.c.key == bindparam("of_key"),
            _first.c.blocks,
        )
        .scalar_subquery(),
    )
    .values(due_at=bindparam("moment"))
)
_is_forgotten = and_(is_parked, ~has_elder)


def unblock(transaction: Transaction, keys: Iterable[tuple[str, str]]) -> None:
    """Make the next parked message of each (destination, key) due now."""
    rows = [
        {"of_destination": destination, "of_key": key, "moment": transaction.now}
        for destination, key in sorted(set(keys))
    ]
    if rows:
        transaction.connection.execute(_unpark_next, rows)


def has_forgotten(transaction: Transaction) -> bool:
    """Tell whether a parked message waits for nobody."""
    found = transaction.connection.execute(select(message.c.id).where(_is_forgotten).limit(1))
    return found.first() is not None


def free_forgotten(transaction: Transaction) -> int:
    """Make parked messages due that wait for nobody, a bounded number; return how many.

    Those that someone has in hand are left for the next time: to wait for them could be a deadlock.
    """
    connection = transaction.connection
    ids = (
        connection.execute(
            select(message.c.id)
            .where(_is_forgotten)
            .order_by(message.c.id)
            .limit(BATCH)
            .with_for_update(skip_locked=True, of=message)
        )
        .scalars()
        .all()
    )
    if ids:
        connection.execute(
            update(message).where(message.c.id.in_(ids), is_pending).values(due_at=transaction.now)
        )
    return len(ids)
