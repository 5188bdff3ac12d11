"""OrderFlow Outbox, the shop's side: store a message for OrderFlow in your own transaction.

with Session(engine) as session, session.begin():
    session.add(order)
    enqueue(session, "order-import", document, channel="web", key=f"order:{order.number}")
"""

from __future__ import annotations

from .borrowing import borrowed
from .catalogue import PREDEFINED, Catalogue
from .ddl import ddl
from .enqueueing import enqueue, enqueue_many
from .errors import (
    IdempotencyConflict,
    InvalidBroker,
    InvalidHeader,
    InvalidMessage,
    InvalidOperation,
    InvalidPayload,
    InvalidQuestion,
    MissingScope,
    NotASession,
    NotTransactional,
    OutboxError,
    PayloadTooLarge,
    UnknownOperation,
    UnsupportedDatabase,
    UnsupportedSchema,
)
from .hints import Hints, hint_after_commit
from .imports import imports, read_imports
from .items import Import, Order, Product, Return, StockMove
from .messages import Message, NewMessage
from .operations import Answer, Method, Naming, Operation, Scope, WhenDead
from .states import Resolution, State
from .status import Status, status_of
from .tables import metadata

__all__ = [
    "PREDEFINED",
    "Answer",
    "Catalogue",
    "Hints",
    "IdempotencyConflict",
    "Import",
    "InvalidBroker",
    "InvalidHeader",
    "InvalidMessage",
    "InvalidOperation",
    "InvalidPayload",
    "InvalidQuestion",
    "Message",
    "Method",
    "MissingScope",
    "Naming",
    "NewMessage",
    "NotASession",
    "NotTransactional",
    "Operation",
    "Order",
    "OutboxError",
    "PayloadTooLarge",
    "Product",
    "Resolution",
    "Return",
    "Scope",
    "State",
    "Status",
    "StockMove",
    "UnknownOperation",
    "UnsupportedDatabase",
    "UnsupportedSchema",
    "WhenDead",
    "borrowed",
    "ddl",
    "enqueue",
    "enqueue_many",
    "hint_after_commit",
    "imports",
    "metadata",
    "read_imports",
    "status_of",
]
