"""What a person does to messages: replay and discard dead ones, cancel waiting ones."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, literal, select, update

from orderflow_outbox import Resolution, State
from orderflow_outbox.tables import audit, body, dead_letter, message

from .indexing import be_found_alike
from .leasing import is_pending
from .ordering import unblock
from .transactions import Transaction

_COPIED = (
    "destination",
    "operation",
    "channel",
    "organisation",
    "key",
    "position",
    "version",
    "idempotency_key",
    "fingerprint",
    "in_doubt",
    "edited",
    "split_from",
)


def letter_of(transaction: Transaction, message_id: int, *, lock: bool) -> Any:
    """Return a message joined with its dead letter, which may be locked; None where it has none."""
    statement = (
        select(message, dead_letter.c.resolution)
        .join_from(message, dead_letter)
        .where(message.c.id == message_id)
    )
    return transaction.connection.execute(
        statement.with_for_update(of=dead_letter) if lock else statement
    ).one_or_none()


def replay_of(transaction: Transaction, message_id: int) -> Any:
    """Return the number and the state of the message that replays `message_id`, None where there is none."""
    return transaction.connection.execute(
        select(message.c.id, message.c.state).where(message.c.replay_of == message_id)
    ).one_or_none()


def insert_replay(
    transaction: Transaction, origin: Any, as_latest: bool = False, version: int | None = None
) -> int:
    """Store a new message with the origin's bytes, identity and place in its key; return its id.

    It takes over the origin's block: later messages of the key wait for the replay.

    Args:
        as_latest: give it the last place in its key instead, and `version`, so that no older one makes it
            obsolete.
        version: the highest one known of its key.
    """
    connection, now = transaction.connection, transaction.now
    expires_at = origin.expires_at if origin.expires_at is not None and origin.expires_at > now else None
    replay_id = int(
        connection.execute(
            insert(message).returning(message.c.id),
            {
                **{name: getattr(origin, name) for name in _COPIED},
                "blocks": origin.key is not None,
                "state": State.PENDING.value,
                "due_at": now,
                "expires_at": expires_at,
                "attempts": 0,
                "tries": 0,
                "rescues": 0,
                "lease_token": 0,
                "replay_of": origin.id,
                "created_at": now,
            },
        ).scalar_one()
    )
    copied = [body.c.payload, body.c.sha256, body.c.query, body.c.headers]
    connection.execute(
        insert(body).from_select(
            ["message_id", *(column.name for column in copied)],
            select(literal(replay_id), *copied).where(body.c.message_id == origin.id),
        )
    )
    be_found_alike(transaction, origin.id, replay_id)
    connection.execute(update(message).where(message.c.id == origin.id).values(blocks=False))
    if as_latest:
        connection.execute(
            update(message).where(message.c.id == replay_id).values(position=replay_id, version=version)
        )
        unblock(transaction, [(origin.destination, origin.key)])
    return replay_id


def resolve_letter(
    transaction: Transaction, message_id: int, resolution: Resolution, by: str, note: str
) -> None:
    """Write what became of a dead letter, by whom and why."""
    transaction.connection.execute(
        update(dead_letter)
        .where(dead_letter.c.message_id == message_id)
        .values(resolution=resolution.value, resolved_at=transaction.now, resolved_by=by, note=note)
    )


def stop_blocking(transaction: Transaction, row: Any) -> None:
    """Let the later messages of a discarded message's key go on."""
    transaction.connection.execute(update(message).where(message.c.id == row.id).values(blocks=False))
    if row.key is not None:
        unblock(transaction, [(row.destination, row.key)])


def cancel_pending(transaction: Transaction, message_id: int) -> bool:
    """Cancel a message that waits; False when it does not wait (any more)."""
    row = transaction.connection.execute(
        update(message)
        .where(message.c.id == message_id, is_pending)
        .values(state=State.CANCELLED.value, due_at=None, blocks=False, finished_at=transaction.now)
        .returning(message.c.destination, message.c.key)
    ).one_or_none()
    if row is None:
        return False
    if row.key is not None:
        unblock(transaction, [(row.destination, row.key)])
    return True


def note_audit(
    transaction: Transaction,
    *,
    verb: str,
    by: str,
    why: str,
    message_id: int | None = None,
    destination: str | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Write down who did what, when and why."""
    transaction.connection.execute(
        insert(audit),
        {
            "at": transaction.now,
            "by": by,
            "verb": verb,
            "why": why,
            "message_id": message_id,
            "destination": destination,
            "detail": detail,
        },
    )
