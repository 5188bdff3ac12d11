"""Children: items of a message that go on as a message of their own, in the transaction of its result.

A child has its parent's place in the order of the key, so that later messages wait for it as they did for
its parent, and the parent's age. Its identity is derived from the parent's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from sqlalchemy import literal, select

from orderflow_outbox import State
from orderflow_outbox.dialects import insert_on
from orderflow_outbox.storing.rows import SAME_IDENTITY
from orderflow_outbox.tables import body, message, unindexed
from worker.deliveries import Child, Claim, Outcome, Settlement
from worker.verdicts import Refused, RetryLater

from .transactions import Transaction

MAX_IDENTITY_CHARACTERS = 255

_INHERITED = (
    "destination",
    "operation",
    "channel",
    "organisation",
    "key",
    "position",
    "version",
    "edited",
    "created_at",
)


def insert_children(transaction: Transaction, settlements: Sequence[Settlement]) -> list[Settlement]:
    """Store the children of messages that were split, and return how each of them stands."""
    return [
        _settlement(child, _insert(transaction, each.claim, child))
        for each in settlements
        for child in each.children
    ]


def _insert(transaction: Transaction, parent: Claim, child: Child) -> Claim:
    """Store one child; return what a claim on it would hold."""
    own = {
        "fingerprint": hashlib.sha256(child.payload).digest(),
        "blocks": child.blocks,
        "state": child.state.value,
        "due_at": child.due_at,
        "expires_at": parent.expires_at,
        "attempts": 0,
        "tries": child.tries,
        "rescues": 0,
        "lease_token": 0,
        "in_doubt": child.in_doubt,
        "split_from": parent.id,
        "finished_at": None if child.state is State.PENDING else transaction.now,
    }
    for identity in identities_of_children(parent.idempotency_key):
        number = _insert_row(transaction, parent.id, {**own, "idempotency_key": identity})
        if number is not None:
            _insert_document(transaction, number, parent, child)
            return replace(
                parent, id=number, idempotency_key=identity, payload=child.payload, token=0, attempt=0
            )
    raise AssertionError("there is always another identity")


def _insert_row(transaction: Transaction, parent_id: int, values: Mapping[str, Any]) -> int | None:
    """Store a child's row beside what it inherits; return its number, None where its identity is taken."""
    connection = transaction.connection
    own = (literal(value, message.c[name].type) for name, value in values.items())
    row = select(*(message.c[name] for name in _INHERITED), *own).where(message.c.id == parent_id)
    number: int | None = connection.execute(
        insert_on(connection, message)
        .from_select([*_INHERITED, *values], row, include_defaults=False)
        .on_conflict_do_nothing(**SAME_IDENTITY)
        .returning(message.c.id)
    ).scalar_one_or_none()
    return number


def _insert_document(transaction: Transaction, number: int, parent: Claim, child: Child) -> None:
    transaction.connection.execute(
        body.insert(),
        {
            "message_id": number,
            "payload": child.payload,
            "sha256": hashlib.sha256(child.payload).digest(),
            "query": dict(parent.query),
            "headers": dict(parent.headers),
        },
    )
    transaction.connection.execute(unindexed.insert(), {"message_id": number, "terms": child.terms})


def identities_of_children(parents: str) -> Iterator[str]:
    """Yield identities for the children of a message: a shop may have given one of that form itself."""
    for n in count(1):
        suffix = f"/split-{n}"
        if len(parents) + len(suffix) > MAX_IDENTITY_CHARACTERS:
            yield hashlib.sha256(parents.encode()).hexdigest() + suffix
        else:
            yield parents + suffix


def _settlement(child: Child, claim: Claim) -> Settlement:
    dead = child.state is State.DEAD
    verdict = Refused(child.why) if dead else RetryLater(child.why, systemic=False)
    return Settlement(
        Outcome(claim, verdict, in_doubt=child.in_doubt),
        state=child.state,
        due_at=child.due_at,
        tries=child.tries,
        in_doubt=child.in_doubt,
        blocks=child.blocks,
        death=child.why if dead else None,
    )
