"""One statement for many rows, which are given to it as one JSON text.

A run for each row would be a round to PostgreSQL and back. In SQLite each run lets go of the
interpreter, and until a busy event loop hands it back the file stays locked for every other writer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, Text, Update, bindparam, cast, column, func
from sqlalchemy.types import TypeEngine

from orderflow_outbox.types import sortable_text

GivenRow = Mapping[str, ColumnElement[Any]]


class Many:
    """An update made once, to be run with any number of rows.

    Args:
        name: what the rows are called in the statement.
        types: of their columns.
        make: makes the statement of those columns.
    """

    def __init__(
        self, name: str, types: Mapping[str, TypeEngine[Any]], make: Callable[[GivenRow], Update]
    ) -> None:
        self._name = name
        self._columns = list(types)
        self._in_postgresql = make(_in_postgresql(name, types))
        self._in_sqlite = make(_in_sqlite(name, types))

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]], **others: Any) -> int:
        """Run it with `rows`, and with the `others` of its parameters; return how many it changed."""
        if connection.dialect.name == "sqlite":
            values = [[row[name] for name in self._columns] for row in rows]
            statement, given = self._in_sqlite, json.dumps(values, default=sortable_text)
        else:
            statement, given = self._in_postgresql, json.dumps(rows, default=datetime.isoformat)
        return connection.execute(statement, {self._name: given, **others}).rowcount


def _in_postgresql(name: str, types: Mapping[str, TypeEngine[Any]]) -> GivenRow:
    columns = [column(each, type_) for each, type_ in types.items()]
    given = func.json_to_recordset(cast(bindparam(name, type_=Text()), JSON))
    return dict(given.table_valued(*columns).render_derived(name=name, with_types=True).c.items())


def _in_sqlite(name: str, types: Mapping[str, TypeEngine[Any]]) -> GivenRow:
    row = func.json_each(bindparam(name, type_=Text())).table_valued("value", name=name)
    return {
        each: func.json_extract(row.c.value, f"$[{place}]", type_=type_)
        for place, (each, type_) in enumerate(types.items())
    }
