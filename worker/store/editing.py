"""A message that replays another with an edited document, and what was changed in it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from itertools import count
from typing import Any

from sqlalchemy import RowMapping, exists, insert, select, update

from orderflow_outbox.messages import CheckedMessage
from orderflow_outbox.tables import body, edit, message, unindexed

from .children import MAX_IDENTITY_CHARACTERS
from .indexing import forget
from .resolving import insert_replay
from .transactions import Transaction

_SUFFIX = re.compile(r"/edit-(\d+)$")


def body_of(transaction: Transaction, message_id: int) -> RowMapping:
    """Return what is sent of a message: its document, query and headers."""
    found = transaction.connection.execute(select(body).where(body.c.message_id == message_id))
    return found.mappings().one()


def insert_edited(transaction: Transaction, origin: Any, edited: CheckedMessage, difference: str) -> int:
    """Store the replay of `origin` with another document, under an identity of its own; return its id.

    Args:
        origin: the dead message's row.
        edited: the message as it would be enqueued with that document.
        difference: what was changed.
    """
    connection = transaction.connection
    identity = _identity(transaction, origin)
    number = insert_replay(transaction, origin)
    own = {"idempotency_key": identity, "fingerprint": edited.fingerprint, "edited": True}
    document = {"payload": edited.payload, "sha256": edited.sha256}
    connection.execute(update(message).where(message.c.id == number).values(own))
    connection.execute(update(body).where(body.c.message_id == number).values(document))
    forget(transaction, [number])
    connection.execute(insert(unindexed), {"message_id": number, "terms": edited.terms})
    connection.execute(insert(edit), {"message_id": number, "difference": difference})
    return number


def _identity(transaction: Transaction, origin: Any) -> str:
    """Return the first identity derived from that of `origin` which no message has."""
    for identity in identities_of_edits(origin.idempotency_key, is_edited=origin.edited):
        taken = exists().where(
            message.c.destination == origin.destination,
            message.c.idempotency_key == identity,
            message.c.replay_of.is_(None),
        )
        if not transaction.connection.scalar(select(taken)):
            return identity
    raise AssertionError("there is always another identity")


def identities_of_edits(identity: str, *, is_edited: bool) -> Iterator[str]:
    """Yield identities for an edited replay: a shop may have given one of that form itself.

    Args:
        identity: that of the message which is edited.
        is_edited: whether it was edited itself: then they go on from its number.
    """
    last = _SUFFIX.search(identity) if is_edited else None
    base, first = (identity[: last.start()], int(last[1]) + 1) if last else (identity, 1)
    for n in count(first):
        suffix = f"/edit-{n}"
        if len(base) + len(suffix) > MAX_IDENTITY_CHARACTERS:
            yield hashlib.sha256(base.encode()).hexdigest() + suffix
        else:
            yield base + suffix
