"""Replaying one dead message: a new one with its bytes, its identity and its place in its key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orderflow_outbox import PREDEFINED, Catalogue, Resolution, State
from worker.by_hand import NotPossible, dead_message
from worker.failpoints import Failpoint, come_by
from worker.store import erasing, resolving
from worker.store.burying import close_settled_incidents
from worker.store.obsolescence import highest_version, obsolescence_of, version_outrunning
from worker.store.transactions import Store, Transaction


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay and where it stands; `created` is False when the message had been replayed before."""

    origin: int
    replay: int
    created: bool
    state: str


def replay(
    store: Store,
    message_id: int,
    by: str,
    why: str,
    *,
    catalogue: Catalogue = PREDEFINED,
    force: bool = False,
) -> Replayed:
    """Send a dead message again, as a new message with its bytes, identity and place in its key.

    Replaying twice gives the same replay.

    Args:
        catalogue: the operations known, which say what makes what obsolete.
        force: replay one that is obsolete, too: as the latest of its key, which makes obsolete what is older.

    Raises:
        NotPossible: the message does not exist, is not dead, was discarded or erased, or is obsolete.
    """
    with store.writing() as transaction:
        replayed = replay_one(transaction, message_id, by, why, catalogue, force=force)
        if replayed.created:
            close_settled_incidents(transaction)
        return replayed


def replay_one(
    transaction: Transaction,
    message_id: int,
    by: str,
    why: str,
    catalogue: Catalogue,
    *,
    force: bool = False,
    run: int | None = None,
) -> Replayed:
    """Replay a dead message as `replay` does, in a transaction of the caller's.

    The caller closes the incidents that are settled by it.

    Args:
        run: the number of the run that it belongs to, if any.
    """
    origin = dead_message(transaction, message_id, "replayed")
    known = replay_of(transaction, message_id)
    if known is not None:
        return known
    check_sendable(transaction, origin)
    by_others = catalogue.superseded_by.get(origin.operation, ())
    obsolete = obsolete_by(transaction, origin, by_others)
    if obsolete is not None and not force:
        raise NotPossible(
            f"message {message_id} is obsolete: {obsolete}: discard it, or replay it by "
            "force, which sends it as the latest of its key"
        )
    if obsolete is None:
        created = resolving.insert_replay(transaction, origin)
    else:
        version = highest_version(transaction, message_id, by_others)
        created = resolving.insert_replay(transaction, origin, as_latest=True, version=version)
    resolving.resolve_letter(transaction, message_id, Resolution.REPLAYED, by, why)
    come_by(Failpoint.IN_REPLAY)
    detail = {"replay": created, "forced": obsolete, "run": run}
    resolving.note_audit(
        transaction,
        verb="replay",
        by=by,
        why=why,
        message_id=message_id,
        detail={name: value for name, value in detail.items() if value is not None},
    )
    return Replayed(message_id, created, created=True, state=State.PENDING)


def replay_of(transaction: Transaction, message_id: int) -> Replayed | None:
    """Return the replay that a message has already, None where it has none."""
    known = resolving.replay_of(transaction, message_id)
    if known is None:
        return None
    return Replayed(message_id, known.id, created=False, state=known.state)


def check_sendable(transaction: Transaction, origin: Any) -> None:
    """Refuse a message whose document is gone, or whose letter was closed without sending it.

    Raises:
        NotPossible: it was erased or discarded.
    """
    if erasing.is_erased(transaction, origin.id):
        raise NotPossible(f"message {origin.id} was erased: its document is gone")
    if origin.resolution == Resolution.DISCARDED:
        raise NotPossible(f"message {origin.id} was discarded: enqueue it anew")


def obsolete_by(transaction: Transaction, origin: Any, by: Sequence[str]) -> str | None:
    """Return in words what has made a dead message obsolete, None where nothing has.

    Args:
        by: the operations whose messages do.
    """
    other = obsolescence_of(transaction, origin.id, by)
    if other is not None:
        return f"message {other.by}, which takes its place, is {other.state}"
    version = version_outrunning(transaction, origin.id, by)
    return None if version is None else f"version {version} of its key was delivered"
