"""Messages that another one made obsolete while they were in somebody's hands, and the versions delivered.

Enqueueing the other one has ended those that waited; it never waits for a row that another holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, exists, func, or_, select

from orderflow_outbox import State
from orderflow_outbox.dialects import insert_on
from orderflow_outbox.lookup import numbers_of_key
from orderflow_outbox.obsolete import is_outrun
from orderflow_outbox.tables import message, term, version_seen
from orderflow_outbox.terms import KEY
from worker.deliveries import Claim, Settlement

from .transactions import Transaction

SupersededBy = Mapping[str, Sequence[str]]
"""By an operation, those whose messages make its own obsolete."""

_newer = message.alias("newer")


class Obsolescence(NamedTuple):
    """What has made a message obsolete.

    Attributes:
        by: the number of the message that did.
        state: where that one stands.
    """

    by: int
    state: State


def outdated(transaction: Transaction, claims: Sequence[Claim], superseded_by: SupersededBy) -> set[int]:
    """Return the numbers of those `claims` that another message of their key has made obsolete."""
    found: set[int] = set()
    for operation, by in superseded_by.items():
        ids = [each.id for each in claims if each.operation == operation and each.key is not None]
        if not ids:
            continue
        # A higher version before it in the order needs no look: it is parked behind that one.
        replaced = exists().where(_newer.c.blocks, _comes_after(message, by))
        obsolete = or_(replaced, is_outrun(message, by))
        found.update(
            transaction.connection.scalars(select(message.c.id).where(message.c.id.in_(ids), obsolete))
        )
    return found


def obsolescence_of(transaction: Transaction, message_id: int, by: Sequence[str]) -> Obsolescence | None:
    """Return the message that has made another one of its key obsolete, None where there is none.

    It is still to come, or was delivered. One that is dead and lets its key go on makes nothing obsolete.

    Args:
        by: the operations whose messages do.
    """
    connection = transaction.connection
    own = select(message).where(message.c.id == message_id).subquery("own")
    key = connection.scalar(select(own.c.key))
    if key is None or not by:
        return None
    replaces = or_(_comes_after(own, by), _is_of_key(own, by) & (_newer.c.version > own.c.version))
    found = select(_newer.c.id, _newer.c.state).select_from(_newer.join(own, replaces))
    of_key = numbers_of_key(key)
    for each in (
        found.where(_newer.c.blocks),
        found.where(_newer.c.state == State.DELIVERED.value, _newer.c.id.in_(select(of_key.c.message_id))),
    ):
        row = connection.execute(each.order_by(_newer.c.position.desc(), _newer.c.id.desc()).limit(1)).first()
        if row is not None:
            return Obsolescence(row.id, State(row.state))
    return None


def made_obsolete(transaction: Transaction, ids: Sequence[int], by: Sequence[str]) -> set[int]:
    """Return which of many messages another one of their key has made obsolete, as far as it is indexed.

    Args:
        by: the operations whose messages do.
    """
    replaces = or_(
        _comes_after(message, by), _is_of_key(message, by) & (_newer.c.version > message.c.version)
    )
    to_come = exists().where(_newer.c.blocks, replaces)
    delivered = exists().where(
        term.c.name == KEY,
        term.c.value == message.c.key,
        _newer.c.id == term.c.message_id,
        _newer.c.state == State.DELIVERED.value,
        replaces,
    )
    found = select(message.c.id).where(
        message.c.id.in_(ids), message.c.key.is_not(None), or_(to_come, is_outrun(message, by), delivered)
    )
    return set(transaction.connection.scalars(found))


def highest_version(transaction: Transaction, message_id: int, by: Sequence[str]) -> int | None:
    """Return the highest version known of a message's key, its own included; None where it has none itself.

    Args:
        by: the operations whose messages make its own obsolete.
    """
    own = select(message).where(message.c.id == message_id).subquery("own")
    waiting = select(func.max(_newer.c.version)).select_from(
        _newer.join(own, and_(_is_of_key(own, by), _newer.c.blocks))
    )
    version: int | None = transaction.connection.scalar(select(own.c.version))
    if version is None:
        return None
    others = transaction.connection.scalar(waiting), version_outrunning(transaction, message_id, by)
    return max([version, *(each for each in others if each is not None)])


def version_outrunning(transaction: Transaction, message_id: int, by: Sequence[str]) -> int | None:
    """Return the version delivered that is higher than that of a message of the same key, None where none is.

    Args:
        by: the operations whose messages make its own obsolete.
    """
    version: int | None = transaction.connection.scalar(
        select(func.max(version_seen.c.version))
        .select_from(message)
        .where(
            message.c.id == message_id,
            version_seen.c.destination == message.c.destination,
            version_seen.c.operation.in_(by),
            version_seen.c.key == message.c.key,
            version_seen.c.version > message.c.version,
        )
    )
    return version


def note_versions(transaction: Transaction, settlements: Sequence[Settlement]) -> None:
    """Write down the versions that were delivered: they are known for longer than their messages are kept."""
    highest: dict[tuple[str, str, str], int] = {}
    for each in settlements:
        claim = each.claim
        if each.state is State.DELIVERED and claim.key is not None and claim.version is not None:
            of = claim.destination, claim.operation, claim.key
            highest[of] = max(claim.version, highest.get(of, claim.version))
    if not highest:
        return
    insert = insert_on(transaction.connection, version_seen)
    columns = ("destination", "operation", "key")
    transaction.connection.execute(
        insert.on_conflict_do_update(
            index_elements=[version_seen.c[name] for name in columns],
            set_={"version": insert.excluded.version},
            where=version_seen.c.version < insert.excluded.version,
        ),
        # In one order, whoever writes: two that lock the same rows the other way round would deadlock.
        [dict(zip(columns, of, strict=True), version=version) for of, version in sorted(highest.items())],
    )


def _comes_after(of: Any, by: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that `_newer` comes later than a message in its key, and with no lower version."""
    return and_(
        _is_of_key(of, by),
        _newer.c.position > of.c.position,
        func.coalesce(of.c.version <= _newer.c.version, True),
    )


def _is_of_key(of: Any, by: Sequence[str]) -> ColumnElement[bool]:
    return and_(
        _newer.c.destination == of.c.destination, _newer.c.key == of.c.key, _newer.c.operation.in_(by)
    )
