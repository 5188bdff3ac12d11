"""Many rows by one statement, on PostgreSQL.

There a statement is parsed and planned each time it is run, since nothing may be left in a session,
and for a row that takes longer than the row itself. So values travel as arrays, one for each column,
or by COPY. SQLite lives in our own process: there many rows are many runs of one statement.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import JSON, Connection, Table, TableValuedAlias, bindparam, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import TypeEngine

Row = Mapping[str, Any]


def takes_arrays(connection: Connection) -> bool:
    """Tell whether many rows go by one statement here."""
    return connection.dialect.name == "postgresql"


def rows_given(name: str, types: Mapping[str, TypeEngine[Any]]) -> TableValuedAlias:
    """Return rows to be given as the parameters of a statement, to join or to choose from.

    Args:
        name: what they are called in the statement.
        types: of their columns, each with a name that is no column's of the table written to.
    """
    arrays = (bindparam(column, type_=ARRAY(type_)) for column, type_ in types.items())
    return func.unnest(*arrays).table_valued(*types).render_derived(name=name)


def as_arrays(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Return `rows`, at least one, as the parameters that `rows_given` asks for."""
    return {column: [row[column] for row in rows] for column in rows[0]}


def insert_many(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert `rows`, at least one, each with the same columns."""
    if not takes_arrays(connection):
        connection.execute(table.insert(), rows)
        return
    columns = list(rows[0])
    documents = {name for name in columns if isinstance(table.c[name].type, JSON)}
    quoted = ", ".join(connection.dialect.identifier_preparer.quote(name) for name in columns)
    driver = connection.connection.driver_connection
    assert driver is not None  # noqa: S101 (it is checked out)
    with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({quoted}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(_fields(row, columns, documents))


def _fields(row: Row, columns: Iterable[str], documents: set[str]) -> list[Any]:
    return [
        json.dumps(row[name]) if name in documents and row[name] is not None else row[name]
        for name in columns
    ]
