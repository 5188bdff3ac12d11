"""Order per key: a message waits for every earlier one of its key that blocks.

A waiting message is parked (`due_at` null). Whoever unblocks a key makes its next message due in
the same transaction. The sweep frees any that waits for nobody all the same, as after a change by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Text, Update, and_, bindparam, literal_column, select, update
from sqlalchemy.types import TypeEngine

from orderflow_outbox import State
from orderflow_outbox.tables import message

from .bulk import as_arrays, rows_given, takes_arrays
from .claiming import has_elder, is_parked, is_pending
from .transactions import Transaction

BATCH = 500

_first = message.alias("first")
_next = message.alias("next")

_GIVEN: dict[str, TypeEngine[Any]] = {"of_destination": Text(), "of_key": Text()}


def _unparking(given: Mapping[str, ColumnElement[Any]]) -> Update:
    first_of_key = (
        select(_first.c.position)
        .where(
            _first.c.destination == given["of_destination"],
            _first.c.key == given["of_key"],
            _first.c.blocks,
        )
        .order_by(_first.c.position)
        .limit(1)
        .scalar_subquery()
    )
    # A shop may hold it, to end it with its own commit: that is not waited for, and what would then be
    # forgotten is the sweep's.
    parked = (
        select(_next.c.id)
        .where(
            _next.c.state == literal_column(f"'{State.PENDING}'"),
            _next.c.due_at.is_(None),
            _next.c.blocks,
            _next.c.destination == given["of_destination"],
            _next.c.key == given["of_key"],
            _next.c.position == first_of_key,
        )
        .with_for_update(skip_locked=True, of=_next)
    )
    return update(message).where(message.c.id.in_(parked)).values(due_at=bindparam("moment"))


_unpark_one = _unparking({name: bindparam(name) for name in _GIVEN})
_unpark_all = _unparking(dict(rows_given("unblocked", _GIVEN).c.items()))
_is_forgotten = and_(is_parked, ~has_elder)


def unblock(transaction: Transaction, keys: Iterable[tuple[str, str]]) -> None:
    """Make the next parked message of each (destination, key) due now."""
    connection, now = transaction.connection, transaction.now
    rows = [{"of_destination": destination, "of_key": key} for destination, key in sorted(set(keys))]
    if rows and takes_arrays(connection):
        connection.execute(_unpark_all, {**as_arrays(rows), "moment": now})
    elif rows:
        connection.execute(_unpark_one, [{**each, "moment": now} for each in rows])


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
