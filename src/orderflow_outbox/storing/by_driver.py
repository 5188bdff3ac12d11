"""Statements that are handed to the database's driver as they are, with one row of parameters each.

SQLAlchemy writes them, once for each database, and is passed by when they are run: in a shop's small
transaction its own work for each would take about as long as the database's. What goes wrong is handed
back to it, by two of its own inner ways, so that a shop finds the errors, the connections and the refusals it
knows. No parameter is: so neither `echo` nor SQLAlchemy's words of an error repeat a payload.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import ClauseElement, Connection
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.util import TransactionalContext

_Schemas: TypeAlias = Mapping[str | None, str | None]


class DriverStatement:
    """One statement, which is written anew for each database that it is run on.

    Args:
        statement: as SQLAlchemy would execute it.
        parameters: their names, where the statement does not name them itself.
    """

    def __init__(self, statement: ClauseElement, parameters: Sequence[str] | None = None) -> None:
        self.statement = statement
        self.parameters = parameters


class _Written:
    """A statement in the words of one database and driver, with the tables' schemas put in.

    Attributes:
        text: what the driver is given.
        order: the names of its parameters, where they travel without.
    """

    def __init__(self, statement: DriverStatement, dialect: Dialect, schemas: _Schemas | None) -> None:
        compiled: Any = statement.statement.compile(
            dialect=dialect,
            column_keys=statement.parameters,
            schema_translate_map=schemas,
            render_schema_translate=schemas is not None,
        )
        self.text = str(compiled)
        self.order: Sequence[str] | None = compiled.positiontup if compiled.positional else None

    def given(self, values: Mapping[str, Any]) -> Any:
        """Return `values` as the driver takes them."""
        return values if self.order is None else tuple([values[name] for name in self.order])


_written: WeakKeyDictionary[Dialect, dict[Hashable, dict[DriverStatement, _Written]]] = WeakKeyDictionary()
"""By what a statement's words depend on: the dialect, and the schemas that stand for the usual one."""
_MOST_SCHEMAS = 500
"""A shop with a schema for each of many customers shall not keep the words of all of them."""


class Driver:
    """Runs statements in the transaction of a connection, for the length of a `with` block.

    Raises:
        DBAPIError: of the kind that SQLAlchemy makes of a driver's error.
        InvalidRequestError: the transaction, or the savepoint that is open, has ended already.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect
        self._schemas: _Schemas | None = connection.get_execution_options().get("schema_translate_map")
        which = None if self._schemas is None else frozenset(self._schemas.items())
        of_dialect = _written.get(self._dialect)
        if of_dialect is None:
            of_dialect = _written[self._dialect] = {}
        if which not in of_dialect and len(of_dialect) >= _MOST_SCHEMAS:
            of_dialect.clear()
        self._written = of_dialect.setdefault(which, {})
        self._text = ""

    def __enter__(self) -> Self:
        TransactionalContext._trans_ctx_check(self._connection)
        if not self._connection.in_transaction():
            self._connection.begin()
        try:
            self._cursor: Any = self._connection.connection.cursor()
        except BaseException as error:
            self._hand_on(error, None)
            raise
        return self

    def run(self, statement: DriverStatement, values: Mapping[str, Any]) -> None:
        """Execute a statement that answers nothing.

        Args:
            values: the parameters by name, as the driver takes them.
        """
        written = self._in_words(statement)
        self._cursor.execute(written.text, written.given(values))

    def fetch(self, statement: DriverStatement, values: Mapping[str, Any]) -> Any:
        """Execute a statement and return the one row it answers, None where there is none."""
        self.run(statement, values)
        return self._cursor.fetchone()

    def insert(self, statement: DriverStatement, values: Mapping[str, Any]) -> int | None:
        """Execute an INSERT on SQLite and return the row's number, None where nothing was inserted."""
        self.run(statement, values)
        number: int = self._cursor.lastrowid
        return number if self._cursor.rowcount else None

    def run_many(self, statement: DriverStatement, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute a statement that answers nothing for each of `rows`."""
        written = self._in_words(statement)
        if rows:
            self._cursor.executemany(written.text, [written.given(each) for each in rows])

    def _in_words(self, statement: DriverStatement) -> _Written:
        written = self._written.get(statement)
        if written is None:
            written = self._written[statement] = _Written(statement, self._dialect, self._schemas)
        self._text = written.text
        return written

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _where: TracebackType | None
    ) -> None:
        if error is not None:
            self._hand_on(error, self._cursor)
        self._cursor.close()

    def _hand_on(self, error: BaseException, cursor: Any) -> None:
        """Have SQLAlchemy raise what it makes of a driver's error, or of a call that was cut short.

        It parts from connections that are lost, and asks the shop's listeners about the error.
        """
        if isinstance(error, self._dialect.loaded_dbapi.Error) or not isinstance(error, Exception):
            self._connection._handle_dbapi_exception(error, self._text, None, cursor, None)
