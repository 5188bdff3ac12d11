"""Edit and replay: one dead message sent again with its document mended.

It has an identity of its own, derived from its origin's, so that OrderFlow takes it for another; and
an answer "duplicate" is no delivery of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from orderflow_outbox import Catalogue, InvalidMessage, NewMessage, Resolution, State
from orderflow_outbox.messages import CheckedMessage, check
from worker.by_hand import NotPossible, dead_message
from worker.failpoints import Failpoint, come_by
from worker.schemas import Schemas
from worker.store import editing, resolving
from worker.store.burying import close_settled_incidents
from worker.store.finding import Row
from worker.store.transactions import Store, Transaction

from .differing import difference
from .replaying import Replayed, check_sendable, obsolete_by, replay_of


@dataclass(frozen=True, slots=True)
class _Editable:
    """A dead message that may be edited.

    Attributes:
        origin: its row, joined with its letter.
        sent: what is sent of it beside its document: query and headers.
    """

    origin: Any
    document: bytes
    sent: Row


@dataclass(frozen=True, slots=True)
class Editor:
    """What a document must fit that is to be sent in place of another.

    Attributes:
        catalogue: the operations known.
        schemas: of their documents.
    """

    catalogue: Catalogue
    schemas: Schemas

    def document(self, store: Store, message_id: int) -> bytes:
        """Return the document of a dead message that may be edited.

        Raises:
            NotPossible: it does not exist, is not dead, was replayed, discarded or erased, is obsolete,
                or has none.
        """
        return self._read(store, message_id).document

    def preview(self, store: Store, message_id: int, document: bytes) -> str:
        """Return how `document` differs from the message's own, once it could be sent in its place.

        Raises:
            NotPossible: as `document`; or it is the same, does not fit its schema, or is of another key.
            InvalidMessage: `enqueue` would refuse it.
        """
        return self._edited(self._read(store, message_id), document)[1]

    def replay(self, store: Store, message_id: int, document: bytes, by: str, why: str) -> Replayed:
        """Send a dead message again with `document` in place of its own, and keep what was changed.

        Raises:
            NotPossible: as `preview`.
            InvalidMessage: as `preview`.
        """
        seen = self._read(store, message_id)
        # Before it is written: a large document takes long to check, and on SQLite the shop waits meanwhile.
        edited, changes = self._edited(seen, document)
        with store.writing() as transaction:
            now = self._editable(transaction, message_id, lock=True)
            if now.document != seen.document:
                raise NotPossible(f"the document of message {message_id} has changed meanwhile: edit it anew")
            created = editing.insert_edited(transaction, now.origin, edited, changes)
            resolving.resolve_letter(transaction, message_id, Resolution.REPLAYED, by, why)
            come_by(Failpoint.IN_REPLAY)
            close_settled_incidents(transaction)
            detail = {"replay": created}
            resolving.note_audit(
                transaction, verb="edit", by=by, why=why, message_id=message_id, detail=detail
            )
            return Replayed(message_id, created, created=True, state=State.PENDING)

    def _read(self, store: Store, message_id: int) -> _Editable:
        with store.reading() as transaction:
            return self._editable(transaction, message_id, lock=False)

    def _edited(self, editable: _Editable, document: bytes) -> tuple[CheckedMessage, str]:
        """Return the message as it would be enqueued with another document, and what differs."""
        origin, before = editable.origin, editable.document
        if document == before:
            raise NotPossible(
                f"the document of message {origin.id} is unchanged: dead replay sends it as it is"
            )
        new = NewMessage(
            operation=origin.operation,
            payload=document,
            destination=origin.destination,
            channel=origin.channel,
            organisation=origin.organisation,
            key=origin.key,
            idempotency_key=origin.idempotency_key,
            version=origin.version,
            query=editable.sent["query"],
            headers=editable.sent["headers"],
        )
        checked = check(new, self.catalogue)
        self._check_key(new, before)
        problem = self.schemas.problem(origin.operation, document)
        if problem is not None:
            raise NotPossible(f"the document does not fit the XML schema of {origin.operation}: {problem}")
        return checked, difference(before, document)

    def _check_key(self, edited: NewMessage, before: bytes) -> None:
        """Refuse what its operation would now give another key: its place is in the order of the old one."""
        was, would_be = (self._own_key(replace(edited, payload=each)) for each in (before, edited.payload))
        if was == edited.key and would_be != was:
            raise NotPossible(
                f"the edit makes of {was} a message of {would_be}: discard this one and enqueue that"
            )

    def _own_key(self, new: NewMessage) -> str | None:
        """Return the key that an operation gives a message by itself, None where it gives none."""
        try:
            return check(replace(new, key=None), self.catalogue).key
        except InvalidMessage:
            return None

    def _editable(self, transaction: Transaction, message_id: int, *, lock: bool) -> _Editable:
        origin = dead_message(transaction, message_id, "edited", lock=lock)
        known = replay_of(transaction, message_id)
        if known is not None:
            raise NotPossible(
                f"message {message_id} was replayed before, as message {known.replay}, which is {known.state}"
            )
        check_sendable(transaction, origin)
        obsolete = obsolete_by(transaction, origin, self.catalogue.superseded_by.get(origin.operation, ()))
        if obsolete is not None:
            raise NotPossible(f"message {message_id} is obsolete: {obsolete}: discard it")
        sent = editing.body_of(transaction, message_id)
        if sent["payload"] is None:
            raise NotPossible(f"message {message_id} has no document: {origin.operation} sends none")
        return _Editable(origin, sent["payload"], sent)
