"""Numbers of rows, given to a statement as one parameter, however many they are.

A parameter for each would make another statement of each number of them: compiled anew by SQLAlchemy, and
parsed and planned anew by the database, which takes longer than finding the rows.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import BigInteger, Boolean, ColumnElement, Dialect, Text, bindparam
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

IDS = "ids"
"""The parameter's name."""


class _Numbers(TypeDecorator[Collection[int]]):
    """Numbers as PostgreSQL's array, or as text that SQLite takes apart."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type they travel as."""
        return ARRAY(BigInteger()) if dialect.name == "postgresql" else Text()

    def process_bind_param(self, value: Collection[int] | None, dialect: Dialect) -> Any:
        """Return the value that travels."""
        numbers = list(value or ())
        return numbers if dialect.name == "postgresql" else json.dumps(numbers)


class _IsOneOf(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> Any:
        """Return itself: compared with 1, as what is true on SQLite, it would be no way to find rows by."""
        del against
        return self


@compiles(_IsOneOf)
def _in_sqlite(element: _IsOneOf, compiler: SQLCompiler, **options: Any) -> str:
    column, numbers = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({numbers}))"  # noqa: S608 (parts that were compiled)


@compiles(_IsOneOf, "postgresql")
def _in_postgresql(element: _IsOneOf, compiler: SQLCompiler, **options: Any) -> str:
    column, numbers = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} = ANY ({numbers})"


def is_given(column: ColumnElement[int]) -> ColumnElement[bool]:
    """Return the condition that a row's number is one of those given as the parameter `ids`."""
    return _IsOneOf(column, bindparam(IDS, type_=_Numbers()))
