"""When a message of an explicit version is obsolete: the higher wins, whatever the order of arrival."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, exists

from .tables import message, version_seen

_other = message.alias("other")


def is_outrun(of: FromClause, by: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition that a higher version was delivered, though nothing else may be left of it.

    Args:
        of: the message.
        by: the operations whose messages make it obsolete.
    """
    return exists().where(
        version_seen.c.destination == of.c.destination,
        version_seen.c.operation.in_(by),
        version_seen.c.key == of.c.key,
        version_seen.c.version > of.c.version,
    )


def is_overtaken(of: FromClause, by: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition that a higher version stands in the order of its key, before it or behind it.

    Args:
        of: the message.
        by: the operations whose messages make it obsolete.
    """
    return exists().where(
        _other.c.destination == of.c.destination,
        _other.c.key == of.c.key,
        _other.c.blocks,
        _other.c.operation.in_(by),
        _other.c.version > of.c.version,
    )
