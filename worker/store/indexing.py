"""Making search terms of what the shop left of each message: a row of `outbox_term` for each."""

from __future__ import annotations

from sqlalchemy import delete, select

from orderflow_outbox.tables import term, unindexed
from orderflow_outbox.terms import pairs_of

from .bulk import insert_many
from .transactions import Transaction

BATCH = 200

_any = select(unindexed.c.message_id).limit(1)
_next = (
    select(unindexed.c.message_id)
    .order_by(unindexed.c.message_id)
    .limit(BATCH)
    .with_for_update(skip_locked=True)
)
_take = (
    delete(unindexed)
    .where(unindexed.c.message_id.in_(_next))
    .returning(unindexed.c.message_id, unindexed.c.terms)
)


def has_unindexed(transaction: Transaction) -> bool:
    """Tell whether any message is not found by its terms yet."""
    return transaction.connection.execute(_any).first() is not None


def index(transaction: Transaction) -> int:
    """Make the terms of a batch of messages, those enqueued first; return how many messages they were."""
    rows = transaction.connection.execute(_take).all()
    terms = [(name, value, row.message_id) for row in rows for name, value in pairs_of(row.terms)]
    if terms:
        # In the order of the index, of which neighbours lie on one page.
        columns = ("name", "value", "message_id")
        insert_many(
            transaction.connection, term, [dict(zip(columns, each, strict=True)) for each in sorted(terms)]
        )
    return len(rows)
