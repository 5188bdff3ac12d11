"""Many rows by one statement, on PostgreSQL.

There a statement is parsed and planned each time it is run, since nothing may be left in a session,
and for a row that takes longer than the row itself. So values travel as arrays, one for each column,
or by COPY. On SQLite they are given all at once, too: each run of a statement lets go of the interpreter, and
until a busy event loop hands it back the file stays locked for every other writer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import JSON, Connection, Table, literal

Row = Mapping[str, Any]


def takes_arrays(connection: Connection) -> bool:
    """Tell whether many rows go by one statement here."""
    return connection.dialect.name == "postgresql"


def insert_many(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert `rows`, at least one, each with the same columns."""
    if not takes_arrays(connection):
        # Only where something is returned SQLAlchemy makes one statement of many rows.
        connection.execute(table.insert().returning(literal(1)), rows).all()
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
