"""Making the next message of a key due, once what stood before it blocks no longer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, String, Update, literal_column, select, update
from sqlalchemy.types import TypeEngine

from .states import State
from .tables import message

KEY: dict[str, TypeEngine[Any]] = {"of_destination": String(), "of_key": String()}
"""What `unparking` is given of each key."""

_first = message.alias("first")
_next = message.alias("next")


def unparking(given: Mapping[str, ColumnElement[Any]], due_at: ColumnElement[Any]) -> Update:
    """Return the statement that makes the first message of each key due, where it is parked.

    One that another transaction holds is not waited for, since a shop may be ending it with a commit of
    its own; what would then be forgotten is found by the service's sweep.

    Args:
        given: the keys, by the names of `KEY`.
        due_at: the moment it is due from.
    """
    first_of_key = (
        select(_first.c.position)
        .where(
            _first.c.destination == given["of_destination"],
            _first.c.key == given["of_key"],
            _first.c.blocks,
        )
        .order_by(_first.c.position)
        .limit(1)
        .scalar_subquery()
    )
    parked = (
        select(_next.c.id)
        .where(
            _next.c.state == literal_column(f"'{State.PENDING}'"),
            _next.c.due_at.is_(None),
            _next.c.blocks,
            _next.c.destination == given["of_destination"],
            _next.c.key == given["of_key"],
            _next.c.position == first_of_key,
        )
        .with_for_update(skip_locked=True, of=_next)
    )
    return update(message).where(message.c.id.in_(parked)).values(due_at=due_at)
