"""Recording: writing what became of claimed messages, many in one transaction.

Every write carries its fencing token in the same UPDATE: a result that comes after its lease was
taken over changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Integer,
    Text,
    Update,
    select,
    update,
)
from sqlalchemy.types import TypeEngine

from orderflow_outbox import State
from orderflow_outbox.tables import message
from worker.deliveries import Claim, Outcome, Settlement
from worker.failpoints import Failpoint, come_by

from . import attempts
from .burying import bury
from .causes import AlertTimes
from .children import insert_children
from .claiming import is_sending
from .given import is_given
from .many import GivenRow, Many
from .obsolescence import note_versions
from .ordering import unblock
from .transactions import Transaction

_held = (
    select(message.c.id, message.c.lease_token)
    .where(is_given(message.c.id), is_sending)
    .order_by(message.c.id)
    .with_for_update()
)
_GIVEN: dict[str, TypeEngine[Any]] = {
    "of_id": BigInteger(),
    "token": BigInteger(),
    "held_state": Text(),
    "new_state": Text(),
    "new_due_at": DateTime(timezone=True),
    "new_tries": Integer(),
    "new_in_doubt": Boolean(),
    "new_blocks": Boolean(),
    "new_finished_at": DateTime(timezone=True),
}


def _settling(given: GivenRow) -> Update:
    # The state comes as a value, not as a literal: the planner must not think of the index of what is
    # being sent, which it believes to be empty, but go by the number.
    return (
        update(message)
        .where(
            message.c.id == given["of_id"],
            message.c.lease_token == given["token"],
            message.c.state == given["held_state"],
        )
        .values(
            state=given["new_state"],
            due_at=given["new_due_at"],
            tries=given["new_tries"],
            in_doubt=given["new_in_doubt"],
            blocks=given["new_blocks"],
            finished_at=given["new_finished_at"],
            lease_until=None,
        )
    )


_settle_all = Many("settled", _GIVEN, _settling)


def still_held(transaction: Transaction, claims: Sequence[Claim]) -> set[int]:
    """Return the ids of those `claims` whose lease nobody has taken over, locking them."""
    tokens = {claim.id: claim.token for claim in claims}
    rows = transaction.connection.execute(_held, {"ids": list(tokens)}).all()
    return {row.id for row in rows if tokens[row.id] == row.lease_token}


class Recorded(NamedTuple):
    """What came of recording, beside what was recorded.

    Attributes:
        children: how the children stand that messages were split into.
        unblocked: how many messages that were parked behind those are due now.
    """

    children: list[Settlement]
    unblocked: int


def record(
    transaction: Transaction,
    settlements: Sequence[Settlement],
    alert_times: AlertTimes,
    with_evidence: bool = True,
) -> Recorded:
    """Write settlements of messages still held: state, log, children, dead letters and incidents as one.

    Args:
        settlements: of messages that `still_held` returned in this transaction.
        alert_times: when alerts of new incidents are due.
        with_evidence: False leaves replies out of the log.

    Returns:
        What else came of it.
    """
    if not settlements:
        return Recorded([], 0)
    in_order = sorted(settlements, key=lambda each: each.claim.id)
    _settle(transaction, in_order)
    note_versions(transaction, in_order)
    attempts.log(transaction, in_order, with_evidence)
    children = insert_children(transaction, in_order)
    bury(transaction, [*in_order, *children], alert_times)
    unblocked = unblock(
        transaction,
        [
            (each.claim.destination, each.claim.key)
            for each in in_order
            if each.claim.key is not None and not each.blocks
        ],
    )
    return Recorded(children, unblocked)


def retire(transaction: Transaction, claims: Sequence[Claim]) -> None:
    """End messages just claimed that a later one made obsolete, and let the next of their keys go on."""
    ended = [
        Settlement(Outcome(each, None), State.SUPERSEDED, None, each.tries, each.in_doubt, blocks=False)
        for each in claims
    ]
    if ended:
        _settle(transaction, ended)
        come_by(Failpoint.IN_SUPERSEDE)
        unblock(transaction, [(each.destination, each.key) for each in claims if each.key is not None])


def _settle(transaction: Transaction, settlements: Sequence[Settlement]) -> None:
    _settle_all.run(transaction.connection, [_values(each, transaction) for each in settlements])


def _values(settlement: Settlement, transaction: Transaction) -> dict[str, object]:
    return {
        "of_id": settlement.claim.id,
        "token": settlement.claim.token,
        "held_state": State.SENDING.value,
        "new_state": settlement.state.value,
        "new_due_at": settlement.due_at,
        "new_tries": settlement.tries,
        "new_in_doubt": settlement.in_doubt,
        "new_blocks": settlement.blocks,
        "new_finished_at": None if settlement.state is State.PENDING else transaction.now,
    }
