"""Order per key: a message waits for every earlier one of its key that blocks.

A waiting message is parked (`due_at` null). Whoever unblocks a key makes its next message due in
the same transaction. The sweep frees any that waits for nobody all the same, as after a change by hand.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import and_, bindparam, select, update

from orderflow_outbox.tables import message
from orderflow_outbox.unparking import KEY, unparking
from worker.failpoints import Failpoint, come_by

from .claiming import has_elder, is_parked
from .leasing import is_pending
from .many import Many
from .transactions import Transaction

BATCH = 500

_moment = bindparam("moment", type_=message.c.due_at.type)
_unpark_all = Many("unblocked", KEY, lambda given: unparking(given, _moment))
_is_forgotten = and_(is_parked, ~has_elder)


def unblock(transaction: Transaction, keys: Iterable[tuple[str, str]]) -> int:
    """Make the next parked message of each (destination, key) due now; return how many there were."""
    rows = [{"of_destination": destination, "of_key": key} for destination, key in sorted(set(keys))]
    if not rows:
        return 0
    unblocked = _unpark_all.run(transaction.connection, rows, moment=transaction.now)
    come_by(Failpoint.IN_UNPARK)
    return unblocked


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
