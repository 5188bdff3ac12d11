"""The statements that store new messages: row, body and search terms, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from orderflow_outbox.messages import CheckedMessage

from . import on_postgresql, on_sqlite
from .rows import Stored

__all__ = ["Stored", "store"]

_STORES: dict[str, Callable[[Connection, Sequence[CheckedMessage]], list[Stored | None]]] = {
    "sqlite": on_sqlite.store,
    "postgresql": on_postgresql.store,
}
"""How messages are stored, by the name of SQLAlchemy's dialect."""


def store(connection: Connection, messages: Sequence[CheckedMessage]) -> list[Stored | None]:
    """Insert `messages` and return what each was given, in their order.

    None stands for a message whose idempotency key is taken, be it by an earlier one of this call.
    """
    return _STORES[connection.dialect.name](connection, messages)
