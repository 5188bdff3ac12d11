"""The settings of a PostgreSQL server on which a committed order's message depends."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Engine, bindparam, event, text

from .transactions import Transaction

_SETTINGS = text("SELECT name, setting FROM pg_settings WHERE name IN :names").bindparams(
    bindparam("names", expanding=True)
)


def give_up_connecting_after(engine: Engine, seconds: int) -> None:
    """Have `engine` wait no longer than this for a PostgreSQL server to take a connection."""

    def bounded(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        parameters["connect_timeout"] = seconds

    event.listen(engine, "do_connect", bounded)


def settings_in_force(transaction: Transaction, names: Collection[str]) -> dict[str, str]:
    """Return the named settings as this very role has them in this very database."""
    rows = transaction.connection.execute(_SETTINGS, {"names": list(names)})
    return {row.name: row.setting for row in rows}
