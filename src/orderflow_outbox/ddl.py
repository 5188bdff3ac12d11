"""The outbox tables as SQL, for a shop that keeps its own migrations."""

from __future__ import annotations

from typing import Any

from sqlalchemy import create_mock_engine

from .dialects import INSERTS
from .errors import UnsupportedDatabase
from .tables import metadata

DATABASES = tuple(INSERTS)


def ddl(database: str) -> list[str]:
    """Return the statements that make the outbox tables of this release, in order.

    The last ones tell the version, by which library and service know what they work on.

    Args:
        database: `sqlite` or `postgresql`.

    Raises:
        UnsupportedDatabase: it is neither.
    """
    if database not in DATABASES:
        raise UnsupportedDatabase(database)
    statements: list[str] = []

    def note(statement: Any, *_: Any, **__: Any) -> None:
        statements.append(str(statement.compile(dialect=engine.dialect)).strip())

    engine = create_mock_engine(f"{database}://", note)
    metadata.create_all(engine, checkfirst=False)
    return statements
