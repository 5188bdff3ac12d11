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

from .clock import database_now
from .messages import CheckedMessage
from .states import State
from .storing.arrays import as_arrays, rows_given
from .tables import message

_KEY: dict[str, TypeEngine[Any]] = {"of_destination": String(), "of_key": String()}
_NEW: dict[str, TypeEngine[Any]] = {
    **_KEY,
    "of_operation": String(),
    "before": BigInteger(),
    "up_to": BigInteger(),
}
_Given = Mapping[str, ColumnElement[Any]]

_elder = message.alias("elder")
_first = message.alias("first")


class _Pair(NamedTuple):
    """A statement for one row of parameters, and one for many rows on PostgreSQL."""

    one: Update
    many: Update
    types: Mapping[str, TypeEngine[Any]]

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        if len(rows) > 1 and connection.dialect.name == "postgresql":
            return list(connection.execute(self.many, as_arrays(self.types, rows)))
        return [found for row in rows for found in connection.execute(self.one, row)]


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


def _unparking(given: _Given) -> Update:
    first_of_key = (
        select(_first.c.position)
        .where(
            _first.c.destination == given["of_destination"], _first.c.key == given["of_key"], _first.c.blocks
        )
        .order_by(_first.c.position)
        .limit(1)
        .scalar_subquery()
    )
    parked_in_vain = (
        select(_elder.c.id)
        .where(
            _elder.c.destination == given["of_destination"],
            _elder.c.key == given["of_key"],
            _elder.c.blocks,
            _elder.c.position == first_of_key,
            _is_pending(_elder),
            _elder.c.due_at.is_(None),
        )
        .with_for_update(skip_locked=True, of=_elder)
    )
    return (
        update(message)
        .where(message.c.id.in_(parked_in_vain))
        .values(due_at=database_now())
        .returning(message.c.id)
    )


def _plain(types: Mapping[str, TypeEngine[Any]]) -> _Given:
    return {name: bindparam(name, type_=type_) for name, type_ in types.items()}


_retire = _Pair(_retiring(_plain(_NEW)), _retiring(dict(rows_given("new", _NEW).c.items())), _NEW)
_unpark = _Pair(_unparking(_plain(_KEY)), _unparking(dict(rows_given("freed", _KEY).c.items())), _KEY)


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
    retired = _retire.run(connection, new)
    freed = sorted({(row.destination, row.key) for row in retired})
    _unpark.run(connection, [dict(zip(_KEY, key, strict=True)) for key in freed])
    return {row.id for row in retired}
