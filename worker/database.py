"""The service's connection to the database that holds the outbox tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from config import ConfigError
from orderflow_outbox.errors import OutboxError
from orderflow_outbox.sqlite import prepare

from .store.preparing import prepare_what_is_run_often

CONNECTIONS = 2
"""What an engine needs at most: one for its store thread, one for its alerts."""
NAME = "orderflow-outbox"
POSTGRESQL: dict[str, Any] = {
    "connect_timeout": 5,
    # A cut cable is noticed within 25 s (10 + 3 x 5), or 15 s after something was sent into it.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "prepare_threshold": None,  # nothing is prepared but where that is possible: see `store.preparing`
}
"""How the service connects; what the address says itself stands."""
_REFUSED = "FATAL:"
"""How the word of a server that turns a connection down begins."""


def connect(
    url: SecretStr,
    must_exist: bool = False,
    connections: int = CONNECTIONS,
    name: str = NAME,
    prepares: bool = False,
) -> Engine:
    """Return an engine for `url`; SQLite's folder is made where it is missing, mode 0700.

    Args:
        url: SQLAlchemy's address of the database.
        must_exist: whether a SQLite file that is not there is refused, or made.
        connections: how many are kept open at most.
        name: what PostgreSQL lists them by.
        prepares: whether PostgreSQL keeps the plans of statements that are run often.

    Raises:
        ConfigError: the file is not there, the address cannot be read, or its driver is not installed.
    """
    try:
        parsed = make_url(url.get_secret_value())
        if parsed.get_backend_name() == "postgresql":
            engine = _postgresql(parsed, connections, name)
            if prepares:
                prepare_what_is_run_often(engine)
            return engine
        engine = create_engine(parsed, hide_parameters=True)
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        raise ConfigError(
            [
                f"database_url cannot be used: {type(error).__name__}: "
                "give sqlite:///path or postgresql://user@host/database; "
                "several hosts as postgresql://user@/database?host=one:5432&host=two:5432"
            ]
        ) from None
    if engine.dialect.name != "sqlite":
        raise ConfigError(
            [
                f"database_url is of {engine.dialect.name}: give sqlite:///path or postgresql://user@host/database"
            ]
        )
    if (file := sqlite_file(url)) is not None:
        _look_after(file, must_exist)
    return prepare(engine)


def sqlite_file(url: SecretStr) -> Path | None:
    """Return the file of a SQLite database; None of another, or of one in memory."""
    parsed = make_url(url.get_secret_value())
    is_file = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
    return Path(str(parsed.database)) if is_file else None


class DatabaseTrouble(OutboxError):
    """The database could not be used; why, in one line."""


@contextmanager
def trouble_in_one_line() -> Iterator[None]:
    """Raise what a driver raises as `DatabaseTrouble`."""
    try:
        yield
    except DBAPIError as error:
        raise DatabaseTrouble(trouble(error)) from None


def trouble(error: DBAPIError) -> str:
    """Return in one line why the database could not be used, and where to look."""
    told = " ".join(str(error.orig).split())
    answered = isinstance(error.orig, sqlite3.Error) or getattr(error.orig, "sqlstate", None) is not None
    if answered or not isinstance(error, OperationalError):
        return f"the database refused: {type(error.orig).__name__}: {told}"
    if _REFUSED in told:
        return f"the database refuses the connection: {told}: look at database_url and database_password"
    return f"the database does not answer: {told}: start it, or mend database_url"


def _postgresql(url: URL, connections: int, name: str) -> Engine:
    from psycopg.pq import Conninfo  # only who has a PostgreSQL waits for this to be read

    known = {each.keyword.decode() for each in Conninfo.get_defaults()}
    for option in url.query.keys() - known:
        raise ConfigError(
            [f"database_url has the option {option!r}, which libpq does not know: take it out of the address"]
        )
    all_ours = {**POSTGRESQL, "application_name": name}
    ours = {option: value for option, value in all_ours.items() if option not in url.query}
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args=ours,
        # Said in each BEGIN: a default of the database's or the role's would fail our statements.
        isolation_level="READ COMMITTED",
        pool_size=connections,
        hide_parameters=True,
    )


def _look_after(file: Path, must_exist: bool) -> None:
    folder = file.parent
    if must_exist and not file.exists():
        raise ConfigError([f"there is no database {file}: make it with `python -m worker db upgrade`"])
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            [f"database_url cannot be used: its folder {folder} is not to be had ({error.strerror})"]
        ) from None
