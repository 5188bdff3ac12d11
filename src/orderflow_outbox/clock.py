"""The database's clock, the one clock by which messages are due and leases run out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import FunctionElement
from sqlalchemy.ext.compiler import compiles

from .types import UtcDateTime


class database_now(FunctionElement[Any]):  # noqa: N801 (named as the SQL function it is)
    """The moment by the database's clock, in microseconds on PostgreSQL, milliseconds on SQLite."""

    type = UtcDateTime()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _sqlite(_element: database_now, _compiler: Any, **_: Any) -> str:
    return "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"


@compiles(database_now, "postgresql")
def _postgresql(_element: database_now, _compiler: Any, **_: Any) -> str:
    return "clock_timestamp()"


def sqlite_now() -> datetime:
    """Return the moment by SQLite's clock, which is that of its process, in milliseconds as it has them."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
