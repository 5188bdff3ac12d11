"""The statements that store new messages: row, body and search terms, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Connection

from orderflow_outbox.messages import CheckedMessage

from . import on_postgresql, on_sqlite
from .rows import Stored

__all__ = ["Stored", "store", "store_one"]


class _Storing(Protocol):
    """How messages are stored in one kind of database."""

    def store_one(self, connection: Connection, checked: CheckedMessage) -> Stored | None: ...

    def store(self, connection: Connection, messages: Sequence[CheckedMessage]) -> list[Stored | None]: ...


_BY_DIALECT: dict[str, _Storing] = {"sqlite": on_sqlite, "postgresql": on_postgresql}


def store_one(connection: Connection, checked: CheckedMessage) -> Stored | None:
    """Insert a message and return what it was given, None when its idempotency key is taken."""
    return _BY_DIALECT[connection.dialect.name].store_one(connection, checked)


def store(connection: Connection, messages: Sequence[CheckedMessage]) -> list[Stored | None]:
    """Insert `messages` and return what each was given, in their order.

    None stands for a message whose idempotency key is taken, be it by an earlier one of this call.
    """
    return _BY_DIALECT[connection.dialect.name].store(connection, messages)
