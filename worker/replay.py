"""Replay, discard and cancel: what an administrator does to messages, each with who and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orderflow_outbox import PREDEFINED, Catalogue, Resolution, State
from orderflow_outbox.errors import OutboxError

from .failpoints import Failpoint, come_by
from .gate import THE_SERVICE, Gate
from .store import gates, resolving
from .store.burying import close_settled_incidents
from .store.finding import message_row
from .store.obsolescence import highest_version, obsolescence_of, version_outrunning
from .store.transactions import Store, Transaction
from .verdicts import Why


class NotPossible(OutboxError):
    """The message is not in a state in which this can be done."""


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
        NotPossible: the message does not exist, is not dead, was discarded, or is obsolete.
    """
    with store.writing() as transaction:
        origin = _dead(transaction, message_id, "replayed")
        known = resolving.replay_of(transaction, message_id)
        if known is not None:
            row = message_row(transaction, known)
            return Replayed(message_id, known, created=False, state="gone" if row is None else row["state"])
        if origin.resolution == Resolution.DISCARDED:
            raise NotPossible(f"message {message_id} was discarded: enqueue it anew")
        by_others = catalogue.superseded_by.get(origin.operation, ())
        obsolete = _obsolete_by(transaction, origin, by_others)
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
        close_settled_incidents(transaction)
        resolving.note_audit(
            transaction,
            verb="replay",
            by=by,
            why=why,
            message_id=message_id,
            detail={"replay": created, **({} if obsolete is None else {"forced": obsolete})},
        )
        return Replayed(message_id, created, created=True, state=State.PENDING)


def discard(store: Store, message_id: int, by: str, why: str) -> None:
    """Close a dead letter without sending: its key's later messages go on.

    Raises:
        NotPossible: the message does not exist, is not dead, or its letter is closed already.
    """
    with store.writing() as transaction:
        row = _dead(transaction, message_id, "discarded")
        if row.resolution != Resolution.OPEN:
            raise NotPossible(
                f"message {message_id} was {row.resolution} already: nothing is left to discard"
            )
        resolving.resolve_letter(transaction, message_id, Resolution.DISCARDED, by, why)
        resolving.stop_blocking(transaction, row)
        close_settled_incidents(transaction)
        resolving.note_audit(transaction, verb="discard", by=by, why=why, message_id=message_id)


def cancel(store: Store, message_id: int, by: str, why: str) -> None:
    """Cancel a message that still waits.

    Raises:
        NotPossible: it does not exist, is being sent right now, or has ended.
    """
    with store.writing() as transaction:
        row = message_row(transaction, message_id)
        if row is None:
            raise NotPossible(f"there is no message {message_id}")
        if not resolving.cancel_pending(transaction, message_id):
            now = "being sent right now" if row["state"] == State.SENDING else f"{row['state']} already"
            raise NotPossible(f"message {message_id} is {now}: only a pending message can be cancelled")
        resolving.note_audit(transaction, verb="cancel", by=by, why=why, message_id=message_id)


def hold(store: Store, destination: str, by: str, why: str) -> None:
    """Stop claiming for a destination until it is resumed.

    Raises:
        NotPossible: it is not told by whom, but in the name of the service, which tries again by itself.
    """
    if by == THE_SERVICE:
        raise NotPossible(f"{by!r} holds destinations by itself, and resumes them: give a name of your own")
    with store.writing() as transaction:
        gates.hold(transaction, destination, Why("by_hand", why, "by-hand"), by, alert_times=None)
        resolving.note_audit(transaction, verb="hold", by=by, why=why, destination=destination)


def resume(store: Store, destination: str, by: str, why: str) -> Gate:
    """Claim for a held destination again, and make a probe at once of one whose breaker is open.

    Returns:
        The gate as it was before.
    """
    with store.writing() as transaction:
        before = gates.resume(transaction, destination, by)
        resolving.note_audit(transaction, verb="resume", by=by, why=why, destination=destination)
        return before


def _obsolete_by(transaction: Transaction, origin: Any, by: Sequence[str]) -> str | None:
    """Return in words what has made a dead message obsolete, None where nothing has."""
    other = obsolescence_of(transaction, origin.id, by)
    if other is not None:
        return f"message {other.by}, which takes its place, is {other.state}"
    version = version_outrunning(transaction, origin.id, by)
    return None if version is None else f"version {version} of its key was delivered"


def _dead(transaction: Transaction, message_id: int, participle: str) -> Any:
    row = resolving.open_letter(transaction, message_id)
    if row is not None:
        return row
    known = message_row(transaction, message_id)
    if known is None:
        raise NotPossible(f"there is no message {message_id}")
    raise NotPossible(f"message {message_id} is {known['state']}: only a dead message can be {participle}")
