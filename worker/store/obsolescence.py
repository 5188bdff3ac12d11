"""Messages that a later one made obsolete while they were in somebody's hands.

Enqueueing the later one has ended those that waited; it never waits for a row that another holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import exists, func, select

from orderflow_outbox.tables import message
from worker.deliveries import Claim

from .transactions import Transaction

SupersededBy = Mapping[str, Sequence[str]]
"""By an operation, those whose later messages make its own obsolete."""

_newer = message.alias("newer")


def outdated(transaction: Transaction, claims: Sequence[Claim], superseded_by: SupersededBy) -> set[int]:
    """Return the numbers of those `claims` that a later message of their key has made obsolete."""
    found: set[int] = set()
    for operation, by in superseded_by.items():
        ids = [each.id for each in claims if each.operation == operation and each.key is not None]
        if not ids:
            continue
        replaced = exists().where(
            _newer.c.destination == message.c.destination,
            _newer.c.key == message.c.key,
            _newer.c.blocks,
            _newer.c.position > message.c.position,
            _newer.c.operation.in_(by),
            func.coalesce(message.c.version <= _newer.c.version, True),
        )
        found.update(
            transaction.connection.scalars(select(message.c.id).where(message.c.id.in_(ids), replaced))
        )
    return found
