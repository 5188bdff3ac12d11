"""Leasing: what is written on a message when an engine takes it, and what the engine is told of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, Update, bindparam, func, literal_column, select, update

from orderflow_outbox import State
from orderflow_outbox.tables import body, message
from worker.deliveries import Claim

from .given import IDS, is_given
from .transactions import Transaction

# Literals, not parameters: only so can a planner tell that a partial index covers the statement.
is_pending = message.c.state == literal_column(f"'{State.PENDING}'")

OF_A_CLAIM = tuple(
    message.c[name]
    for name in (
        "id",
        "destination",
        "operation",
        "channel",
        "organisation",
        "key",
        "version",
        "idempotency_key",
        "lease_token",
        "attempts",
        "tries",
        "in_doubt",
        "edited",
        "created_at",
        "expires_at",
        "replay_of",
    )
)
OF_ITS_BODY = (body.c.payload, body.c.query, body.c.headers)

MOST_BYTES = 16 * 1024 * 1024
"""So many bytes of documents one claim fetches at most, or one message whatever its size."""

leasing = (
    update(message)
    .where(is_pending)
    .values(
        state=State.SENDING.value,
        attempts=message.c.attempts + 1,
        lease_token=message.c.lease_token + 1,
        lease_until=bindparam("until"),
    )
)
"""Leases messages; whoever uses it says which."""

_lease: Update = leasing.where(is_given(message.c.id))
leased: Select[Any] = (
    select(*OF_A_CLAIM, *OF_ITS_BODY)
    .join_from(message, body, body.c.message_id == message.c.id)
    # Both are found by number: a planner left to join them may read every body there is.
    .where(is_given(message.c.id), is_given(body.c.message_id))
    .order_by(message.c.id)
)


_sizes = select(body.c.message_id, func.length(body.c.payload).label("size")).where(
    is_given(body.c.message_id)
)


def fitting(transaction: Transaction, ids: Sequence[int]) -> list[int]:
    """Return the first of `ids` whose documents are `MOST_BYTES` together, or less; the first of all fits."""
    sizes = {row.message_id: row.size or 0 for row in transaction.connection.execute(_sizes, {IDS: ids})}
    fits: list[int] = []
    total = 0
    for message_id in ids:
        total += sizes.get(message_id, 0)
        if fits and total > MOST_BYTES:
            break
        fits.append(message_id)
    return fits


def lease_all(transaction: Transaction, ids: Sequence[int], lease: timedelta) -> list[Claim]:
    """Lease pending messages that the transaction has locked, and return the claims on them."""
    if not ids:
        return []
    connection = transaction.connection
    connection.execute(_lease, {IDS: ids, "until": transaction.now + lease})
    return [claim_of(row, transaction.now) for row in connection.execute(leased, {IDS: ids})]


def claim_of(values: Iterable[Any], now: datetime) -> Claim:
    """Return the claim on a leased message.

    Args:
        values: of the columns `OF_A_CLAIM` and `OF_ITS_BODY`, which are a claim's own in its order.
    """
    return Claim(*[*values, now])


def as_claimed(transaction: Transaction, message_id: int) -> Claim:
    """Return a message as whoever claims it is told of it; nothing is leased."""
    row = transaction.connection.execute(leased, {IDS: [message_id]}).one()
    return claim_of(row, transaction.now)
