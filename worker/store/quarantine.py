"""What is written of messages in quarantine, and found of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from sqlalchemy import select

from orderflow_outbox.tables import attempt, message
from worker.deliveries import Claim

from .attempts import log_unknown
from .claiming import is_due, is_in_quarantine, is_sending
from .given import IDS
from .leasing import claim_of, leased
from .recording import still_held
from .transactions import Transaction

BATCH = 500
LATEST = 10
"""So many of a message's attempts are looked at."""

_at_work = select(message.c.id).where(is_sending, is_in_quarantine).limit(1)
_rescued_often = select(message.c.id, message.c.lease_token).where(is_due, is_in_quarantine).limit(BATCH)


def is_at_work(transaction: Transaction) -> bool:
    """Tell whether a message in quarantine is being sent."""
    return transaction.connection.execute(_at_work).first() is not None


def rescued_often(transaction: Transaction, rescues: int) -> Sequence[Any]:
    """Return the waiting messages whose lease ran out so many times, or more; a bounded batch."""
    often = _rescued_often.where(message.c.rescues >= rescues)
    return transaction.connection.execute(often).all()


def log_death(transaction: Transaction, claim: Claim, reason: str, error: str) -> tuple[Claim, int] | None:
    """Log the attempt that a process has died over.

    Args:
        claim: the message, as that process had it.

    Returns:
        The claim, whole, and over how many of the message's latest attempts in a row a process has died, this
        one included; None where its lease was taken over.
    """
    if not still_held(transaction, [claim]):
        return None
    log_unknown(transaction, [(claim.id, claim.attempt)], reason, error)
    connection = transaction.connection
    latest = select(attempt.c.reason).where(attempt.c.message_id == claim.id).order_by(attempt.c.n.desc())
    in_a_row = takewhile(lambda each: each == reason, connection.scalars(latest.limit(LATEST)))
    row = connection.execute(leased, {IDS: [claim.id]}).one()
    return claim_of(row, transaction.now), len(list(in_a_row))
