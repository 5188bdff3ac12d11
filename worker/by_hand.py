"""Discard, cancel, hold and resume: what a person does to messages and destinations, each with who and why.

What is sent again is the room `replays`.
"""

from __future__ import annotations

from typing import Any
from unicodedata import category

from orderflow_outbox import Resolution, State
from orderflow_outbox.errors import OutboxError

from .gate import THE_SERVICE, Gate
from .store import gates, resolving
from .store.burying import close_settled_incidents
from .store.finding import message_row
from .store.transactions import Store, Transaction
from .verdicts import Why

_SHOWS_NOTHING = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
"""Categories of characters: control and format, and what parts words and lines."""


class NotPossible(OutboxError):
    """The message is not in a state in which this can be done."""


def says_something(why: str) -> bool:
    """Tell whether a reason has anything in it that can be seen."""
    return any(category(each) not in _SHOWS_NOTHING for each in why)


def dead_message(transaction: Transaction, message_id: int, participle: str, *, lock: bool = True) -> Any:
    """Return a dead message joined with its letter.

    Args:
        participle: what was to be done to it, such as `replayed`.
        lock: whether the letter is locked, as for whoever will close it.

    Raises:
        NotPossible: it does not exist, or is not dead.
    """
    row = resolving.letter_of(transaction, message_id, lock=lock)
    if row is not None:
        return row
    known = message_row(transaction, message_id)
    if known is None:
        raise NotPossible(f"there is no message {message_id}")
    raise NotPossible(f"message {message_id} is {known['state']}: only a dead message can be {participle}")


def discard(store: Store, message_id: int, by: str, why: str) -> None:
    """Close a dead letter without sending: its key's later messages go on.

    Raises:
        NotPossible: the message does not exist, is not dead, or its letter is closed already.
    """
    with store.writing() as transaction:
        discard_one(transaction, message_id, by, why)
        close_settled_incidents(transaction)


def discard_one(transaction: Transaction, message_id: int, by: str, why: str) -> None:
    """Discard as `discard` does, in a transaction of the caller's, who closes the incidents settled by it."""
    row = dead_message(transaction, message_id, "discarded")
    if row.resolution != Resolution.OPEN:
        raise NotPossible(f"message {message_id} was {row.resolution} already: nothing is left to discard")
    resolving.resolve_letter(transaction, message_id, Resolution.DISCARDED, by, why)
    resolving.stop_blocking(transaction, row)
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
