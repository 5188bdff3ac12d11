"""OrderFlow Outbox, the shop's side: store a message for OrderFlow in your own transaction.

with Session(engine) as session, session.begin():
    session.add(order)
    enqueue(session, "order-import", document, channel="web", key=f"order:{order.number}")
"""

from __future__ import annotations

from .enqueueing import enqueue, enqueue_many
from .errors import (
    IdempotencyConflict,
    InvalidHeader,
    InvalidMessage,
    InvalidOperation,
    InvalidPayload,
    MissingScope,
    NotASession,
    NotTransactional,
    OutboxError,
    PayloadTooLarge,
    UnknownOperation,
    UnsupportedDatabase,
)
from .hints import Hints, hint_after_commit
from .messages import Message, NewMessage
from .operations import PREDEFINED, Answer, Catalogue, Operation, Scope, WhenDead
from .states import Resolution, State
from .tables import metadata

__all__ = [
    "PREDEFINED",
    "Answer",
    "Catalogue",
    "Hints",
    "IdempotencyConflict",
    "InvalidHeader",
    "InvalidMessage",
    "InvalidOperation",
    "InvalidPayload",
    "Message",
    "MissingScope",
    "NewMessage",
    "NotASession",
    "NotTransactional",
    "Operation",
    "OutboxError",
    "PayloadTooLarge",
    "Resolution",
    "Scope",
    "State",
    "UnknownOperation",
    "UnsupportedDatabase",
    "WhenDead",
    "enqueue",
    "enqueue_many",
    "hint_after_commit",
    "metadata",
]
