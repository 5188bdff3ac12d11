"""What the sweep finds: leases that ran out, and messages past the end of their life."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, bindparam, select, update

from orderflow_outbox import State
from orderflow_outbox.tables import message
from worker.deliveries import Claim

from .aging import Lifetimes, past_end
from .attempts import log_unknown
from .claiming import is_due, is_parked, is_sending
from .given import is_given
from .leasing import claim_of, is_pending, leased
from .transactions import Transaction

BATCH = 500

_run_out = and_(is_sending, message.c.lease_until < bindparam("moment"))
_any_run_out = select(message.c.id).where(_run_out).limit(1)
_find_run_out = (
    select(message.c.id, message.c.lease_token, message.c.attempts)
    .where(_run_out)
    .order_by(message.c.id)
    .limit(BATCH)
    .with_for_update(skip_locked=True)
)
_rescue = (
    update(message)
    .where(
        message.c.id == bindparam("of_id"),
        message.c.lease_token == bindparam("token"),
        is_sending,
    )
    .values(
        state=State.PENDING.value,
        due_at=bindparam("moment"),
        lease_token=message.c.lease_token + 1,
        lease_until=None,
        rescues=message.c.rescues + 1,
        in_doubt=True,
    )
)


def has_run_out(transaction: Transaction) -> bool:
    """Tell whether any lease has run out."""
    found = transaction.connection.execute(_any_run_out, {"moment": transaction.now})
    return found.first() is not None


def rescue(transaction: Transaction) -> int:
    """Take back the messages whose lease ran out; return how many.

    Nobody knows what became of the request: the message is in doubt, and its attempt is logged with
    an unknown outcome. The token goes up, so the late holder can write nothing.
    """
    connection, now = transaction.connection, transaction.now
    rows = connection.execute(_find_run_out, {"moment": now}).all()
    if not rows:
        return 0
    connection.execute(_rescue, [{"of_id": row.id, "token": row.lease_token, "moment": now} for row in rows])
    error = "outcome unknown: the lease ran out before a result was recorded"
    log_unknown(transaction, [(row.id, row.attempts) for row in rows], "lease_ran_out", error)
    return len(rows)


def past_their_end(transaction: Transaction, lifetimes: Lifetimes) -> list[Any]:
    """Return waiting messages, parked and held ones included, that are past the end of their life."""
    over = past_end(lifetimes, transaction.now)
    # Two statements, since each is answered from its own partial index and one of both from neither.
    rows: list[Any] = []
    for waiting in (is_due, is_parked):
        statement = select(message.c.id, message.c.lease_token).where(waiting, over)
        rows += transaction.connection.execute(statement.limit(BATCH)).all()
    return rows


_waiting = (
    select(message.c.id, message.c.lease_token)
    .where(is_given(message.c.id), is_pending)
    .order_by(message.c.id)
    .with_for_update(skip_locked=True)
)
_take = (
    update(message)
    .where(message.c.id == bindparam("of_id"), is_pending)
    .values(state=State.SENDING.value, lease_token=message.c.lease_token + 1, lease_until=bindparam("moment"))
)


def take_unsent(transaction: Transaction, rows: list[Any]) -> list[Claim]:
    """Lease waiting messages without counting an attempt, to end them; return those gained."""
    connection = transaction.connection
    tokens = {row.id: row.lease_token for row in rows}
    waiting = connection.execute(_waiting, {"ids": list(tokens)}).all()
    gained = [row.id for row in waiting if tokens[row.id] == row.lease_token]
    if not gained:
        return []
    connection.execute(_take, [{"of_id": each, "moment": transaction.now} for each in gained])
    leases = connection.execute(leased, {"ids": gained}).all()
    return [claim_of(row, transaction.now) for row in leases]
