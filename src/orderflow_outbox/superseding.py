"""Retiring what new messages make obsolete, and new ones that are obsolete as they arrive.

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
    or_,
    select,
    update,
)
from sqlalchemy.types import TypeEngine

from .arrays import as_arrays, rows_given
from .catalogue import Catalogue
from .clock import database_now
from .messages import CheckedMessage
from .obsolete import is_outrun, is_overtaken
from .states import State
from .tables import message
from .unparking import KEY, unparking

_NEW: dict[str, TypeEngine[Any]] = {
    **KEY,
    "of_operation": String(),
    "before": BigInteger(),
    "up_to": BigInteger(),
}
_VERSIONED: dict[str, TypeEngine[Any]] = {"number": BigInteger(), "by": String()}
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
    return _ending(message.c.id.in_(waiting_elders))


def _retiring_new(given: _Given) -> Update:
    by = [given["by"]]
    obsolete = or_(is_outrun(message, by), is_overtaken(message, by))
    return _ending(message.c.id == given["number"], _is_pending(message), obsolete)


def _ending(*conditions: ColumnElement[bool]) -> Update:
    return (
        update(message)
        .where(*conditions)
        .values(state=State.SUPERSEDED, blocks=False, due_at=null(), finished_at=database_now())
        .returning(message.c.id, message.c.destination, message.c.key)
    )


def _plain(types: Mapping[str, TypeEngine[Any]]) -> _Given:
    return {name: bindparam(name, type_=type_) for name, type_ in types.items()}


_retire = _Pair(_retiring(_plain(_NEW)), _retiring(dict(rows_given("new", _NEW).c.items())), _NEW)
_retire_new = _Pair(
    _retiring_new(_plain(_VERSIONED)),
    _retiring_new(dict(rows_given("versioned", _VERSIONED).c.items())),
    _VERSIONED,
)
_unpark = _Pair(
    unparking(_plain(KEY), database_now()),
    unparking(dict(rows_given("freed", KEY).c.items()), database_now()),
    KEY,
)


def retire_obsolete(
    connection: Connection, stored: Sequence[tuple[CheckedMessage, int]], catalogue: Catalogue
) -> set[int]:
    """End what waits and is made obsolete by new messages, and those of the new that are so themselves.

    What was parked behind them is made due.

    Args:
        connection: in the transaction that stored the new messages.
        stored: the new messages with their numbers.
        catalogue: the operations known.

    Returns:
        The numbers of the ended.
    """
    obsolete = _retire_new_ones(connection, stored, catalogue)
    # What is obsolete itself makes nothing so: the newer message that did it may not concern the same elders.
    return obsolete | _retire_elders(connection, [each for each in stored if each[1] not in obsolete])


def _retire_elders(connection: Connection, stored: Sequence[tuple[CheckedMessage, int]]) -> set[int]:
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


def _retire_new_ones(
    connection: Connection, stored: Sequence[tuple[CheckedMessage, int]], catalogue: Catalogue
) -> set[int]:
    """End those of the new messages of which a higher version came before them."""
    versioned = [
        {"number": number, "by": operation}
        for checked, number in stored
        if checked.version is not None and checked.key is not None
        for operation in catalogue.superseded_by.get(checked.operation.name, ())
    ]
    if not versioned:
        return set()
    return {row.id for result in _retire_new.run(connection, versioned) for row in result}
