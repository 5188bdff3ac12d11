"""Many rows by one statement.

To PostgreSQL they go by COPY: a statement of many rows is long to parse, and through a pooler is parsed each
time. In SQLite each run of a statement lets go of the interpreter, and until a busy event loop hands it back
the file stays locked for every other writer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Connection, Table

from orderflow_outbox.types import sortable_text

Row = Mapping[str, Any]

MOST_PARAMETERS = 32_000
"""SQLite takes a few more in one statement."""


def insert_many(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert `rows`, at least one, each with the same columns."""
    columns = list(rows[0])
    documents = {name for name in columns if isinstance(table.c[name].type, JSON)}
    values = [_values(row, columns, documents) for row in rows]
    quoted = ", ".join(connection.dialect.identifier_preparer.quote(name) for name in columns)
    if connection.dialect.name == "postgresql":
        _copy(connection, f"COPY {table.name} ({quoted}) FROM STDIN", values)
    else:
        _insert(connection, f"INSERT INTO {table.name} ({quoted})", values)


def _values(row: Row, columns: Sequence[str], documents: set[str]) -> list[Any]:
    return [
        json.dumps(row[name]) if name in documents and row[name] is not None else row[name]
        for name in columns
    ]


def _copy(connection: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    driver = connection.connection.driver_connection
    assert driver is not None  # noqa: S101 (it is checked out)
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except connection.dialect.loaded_dbapi.Error as error:
        # Raised as SQLAlchemy does, of whom the statement knows nothing.
        connection._handle_dbapi_exception(error, statement, None, None, None)


def _insert(connection: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    width = len(rows[0])
    at_once = MOST_PARAMETERS // width
    of_a_row = f"({', '.join(['?'] * width)})"
    for first in range(0, len(rows), at_once):
        some = rows[first : first + at_once]
        values = [sortable_text(each) if isinstance(each, datetime) else each for row in some for each in row]
        connection.exec_driver_sql(f"{statement} VALUES {', '.join([of_a_row] * len(some))}", tuple(values))
