"""Recording: writing what became of claimed messages, many in one transaction.

Every write carries its fencing token in the same UPDATE: a result that comes after its lease was
taken over changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, select, update

from orderflow_outbox import State
from orderflow_outbox.tables import message
from worker.deliveries import Claim, Settlement

from . import attempts
from .burying import AlertTimes, bury
from .claiming import is_sending
from .ordering import unblock
from .transactions import Transaction

_held = (
    select(message.c.id, message.c.lease_token)
    .where(message.c.id.in_(bindparam("ids", expanding=True)), is_sending)
    .order_by(message.c.id)
    .with_for_update()
)
_settle = (
    update(message)
    .where(
        message.c.id == bindparam("of_id"),
        message.c.lease_token == bindparam("token"),
        is_sending,
    )
    .values(
        state=bindparam("new_state"),
        due_at=bindparam("new_due_at"),
        tries=bindparam("new_tries"),
        in_doubt=bindparam("new_in_doubt"),
        blocks=bindparam("new_blocks"),
        finished_at=bindparam("new_finished_at"),
        lease_until=None,
    )
)


def still_held(transaction: Transaction, claims: Sequence[Claim]) -> set[int]:
    """Return the ids of those `claims` whose lease nobody has taken over, locking them."""
    tokens = {claim.id: claim.token for claim in claims}
    rows = transaction.connection.execute(_held, {"ids": list(tokens)}).all()
    return {row.id for row in rows if tokens[row.id] == row.lease_token}


def record(
    transaction: Transaction,
    settlements: Sequence[Settlement],
    alert_times: AlertTimes,
    with_evidence: bool = True,
) -> None:
    """Write settlements of messages still held: state, log, dead letters and incidents as one.

    Args:
        settlements: of messages that `still_held` returned in this transaction.
        alert_times: when alerts of new incidents are due.
        with_evidence: False leaves replies out of the log.
    """
    if not settlements:
        return
    in_order = sorted(settlements, key=lambda each: each.claim.id)
    transaction.connection.execute(_settle, [_values(each, transaction) for each in in_order])
    attempts.log(transaction, in_order, with_evidence)
    bury(transaction, in_order, alert_times)
    unblock(
        transaction,
        [
            (each.claim.destination, each.claim.key)
            for each in in_order
            if each.claim.key is not None and not each.blocks
        ],
    )


def _values(settlement: Settlement, transaction: Transaction) -> dict[str, object]:
    return {
        "of_id": settlement.claim.id,
        "token": settlement.claim.token,
        "new_state": settlement.state.value,
        "new_due_at": settlement.due_at,
        "new_tries": settlement.tries,
        "new_in_doubt": settlement.in_doubt,
        "new_blocks": settlement.blocks,
        "new_finished_at": None if settlement.state is State.PENDING else transaction.now,
    }
