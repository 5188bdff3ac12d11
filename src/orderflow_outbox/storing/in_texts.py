"""Many rows that travel to PostgreSQL as texts, one for each column: a driver is slow at arrays.

It looks at each element of an array in Python and quotes it; a text it sends as it is. The values are parted
by a control character that no value holds: references, names and query parameters are refused with one,
and XML has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import TableValuedAlias, Text, bindparam, cast, func, literal_column
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import TypeEngine

_BETWEEN = "\x1e"
_NULL = "\x1d"


def rows_in_texts(name: str, types: Mapping[str, TypeEngine[Any]]) -> TableValuedAlias:
    """Return rows to be given as the parameters of a statement, at least two of them.

    Of a single row PostgreSQL could not tell an empty text from no row.

    Args:
        name: what they are called in the statement.
        types: of their columns, which are the names of the parameters, too.
    """
    arrays = (
        cast(
            func.string_to_array(
                bindparam(column, type_=Text()), literal_column(r"E'\x1e'"), literal_column(r"E'\x1d'")
            ),
            ARRAY(type_),
        )
        for column, type_ in types.items()
    )
    return func.unnest(*arrays).table_valued(*types).render_derived(name=name)


def as_texts(columns: Mapping[str, TypeEngine[Any]], rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the `columns` of `rows` as the parameters that `rows_in_texts` asks for.

    Raises:
        ValueError: a value holds the character that parts them.
    """
    return {column: _joined(column, [row[column] for row in rows]) for column in columns}


def _joined(column: str, values: list[Any]) -> str:
    joined = _BETWEEN.join(
        [each if isinstance(each, str) else _NULL if each is None else _in_words(each) for each in values]
    )
    if joined.count(_BETWEEN) != len(values) - 1:
        raise ValueError(f"{column} holds a control character")
    return joined


def _in_words(value: Any) -> str:
    """Return a value as PostgreSQL reads it."""
    if isinstance(value, bytes):
        return rf"\x{value.hex()}"
    return value.isoformat() if isinstance(value, datetime) else str(value)
