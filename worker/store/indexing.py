"""Making search terms of what the shop left of each message: a row of `outbox_term` for each."""

from __future__ import annotations

from itertools import accumulate

from sqlalchemy import bindparam, delete, func, select

from orderflow_outbox.tables import term, unindexed
from orderflow_outbox.terms import pairs_of

from .bulk import insert_many
from .transactions import Transaction

BATCH = 200
"""Messages of one batch at most."""
BATCH_CHARACTERS = 100_000
"""Past so many characters of terms a batch takes no further message: on SQLite the shop waits meanwhile."""

_any = select(unindexed.c.message_id).limit(1)
_next = (
    select(unindexed.c.message_id, func.length(unindexed.c.terms).label("characters"))
    .order_by(unindexed.c.message_id)
    .limit(BATCH)
    .with_for_update(skip_locked=True)
)
_take = (
    delete(unindexed)
    .where(unindexed.c.message_id.in_(bindparam("ids", expanding=True)))
    .returning(unindexed.c.message_id, unindexed.c.terms)
)


def has_unindexed(transaction: Transaction) -> bool:
    """Tell whether any message is not found by its terms yet."""
    return transaction.connection.execute(_any).first() is not None


def index(transaction: Transaction) -> bool:
    """Make the terms of a batch of messages, those enqueued first; return whether there may be more."""
    connection = transaction.connection
    waiting = connection.execute(_next).all()
    if not waiting:
        return False
    sizes = accumulate(row.characters for row in waiting)
    ids = [row.message_id for row, size in zip(waiting, sizes, strict=True) if size <= BATCH_CHARACTERS]
    ids = ids or [waiting[0].message_id]
    rows = connection.execute(_take, {"ids": ids}).all()
    terms = [(name, value, row.message_id) for row in rows for name, value in pairs_of(row.terms)]
    if terms:
        # In the order of the index, of which neighbours lie on one page.
        columns = ("name", "value", "message_id")
        insert_many(connection, term, [dict(zip(columns, each, strict=True)) for each in sorted(terms)])
    return len(ids) < len(waiting) or len(waiting) == BATCH
