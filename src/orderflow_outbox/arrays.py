"""Rows that travel to PostgreSQL as arrays, one for each column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import TableValuedAlias, bindparam, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import TypeEngine


def rows_given(name: str, types: Mapping[str, TypeEngine[Any]]) -> TableValuedAlias:
    """Return rows to be given as the parameters of a statement.

    Args:
        name: what they are called in the statement.
        types: of their columns, which are the names of the parameters, too.
    """
    arrays = (bindparam(column, type_=ARRAY(type_)) for column, type_ in types.items())
    return func.unnest(*arrays).table_valued(*types).render_derived(name=name)


def as_arrays(columns: Iterable[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the `columns` of `rows` as the parameters that `rows_given` asks for."""
    return {column: [row[column] for row in rows] for column in columns}
