"""Retiring what new messages make obsolete.

A row that another transaction holds is about to be sent, or was: it is let go its way, and the shop
never waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Result,
    String,
    Update,
    bindparam,
    func,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy.types import TypeEngine

from .arrays import as_arrays, rows_given
from .clock import database_now
from .messages import CheckedMessage
from .states import State
from .tables import message
from .unparking import KEY, unparking

_NEW: dict[str, TypeEngine[Any]] = {
    **KEY,
    "of_operation": String(),
    "before": BigInteger(),
    "up_to": BigInteger(),
}
_Given = Mapping[str, ColumnElement[Any]]

_elder = message.alias("elder")


class _Pair(NamedTuple):
    """A statement for one row of parameters, and one for many rows on PostgreSQL."""

    one: Update
    many: Update
    types: Mapping[str, TypeEngine[Any]]

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Result[Any]]:
        if len(rows) > 1 and connection.dialect.name == "postgresql":
            return [connection.execute(self.many, as_arrays(self.types, rows))]
        return [connection.execute(self.one, row) for row in rows]


def _is_pending(of: FromClause) -> ColumnElement[bool]:
    return of.c.state == literal_column(f"'{State.PENDING}'")


def _retiring(given: _Given) -> Update:
    waiting_elders = (
        select(_elder.c.id)
        .where(
            _elder.c.destination == given["of_destination"],
            _elder.c.key == given["of_key"],
            _elder.c.blocks,
            _elder.c.position < given["before"],
            _is_pending(_elder),
            _elder.c.operation == given["of_operation"],
            func.coalesce(_elder.c.version <= given["up_to"], True),
        )
        .with_for_update(skip_locked=True, of=_elder)
    )
    return (
        update(message)
        .where(message.c.id.in_(waiting_elders))
        .values(state=State.SUPERSEDED, blocks=False, due_at=null(), finished_at=database_now())
        .returning(message.c.id, message.c.destination, message.c.key)
    )


def _plain(types: Mapping[str, TypeEngine[Any]]) -> _Given:
    return {name: bindparam(name, type_=type_) for name, type_ in types.items()}


_retire = _Pair(_retiring(_plain(_NEW)), _retiring(dict(rows_given("new", _NEW).c.items())), _NEW)
_unpark = _Pair(
    unparking(_plain(KEY), database_now()),
    unparking(dict(rows_given("freed", KEY).c.items()), database_now()),
    KEY,
)


def retire_elders(connection: Connection, stored: Sequence[tuple[CheckedMessage, int]]) -> set[int]:
    """End the older messages that wait and that new ones make obsolete; return the numbers of the ended.

    What was parked behind them is made due.

    Args:
        connection: in the transaction that stored the new messages.
        stored: the new messages with their numbers.
    """
    new = [
        {
            "of_destination": checked.destination,
            "of_key": checked.key,
            "of_operation": operation,
            "before": number,
            "up_to": checked.version,
        }
        for checked, number in stored
        if checked.key is not None
        for operation in checked.operation.supersedes
    ]
    if not new:
        return set()
    retired = [row for result in _retire.run(connection, new) for row in result]
    freed = sorted({(row.destination, row.key) for row in retired})
    _unpark.run(connection, [dict(zip(KEY, key, strict=True)) for key in freed])
    return {row.id for row in retired}
