"""The service's connection to the database that holds the outbox tables."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from config import ConfigError
from orderflow_outbox.sqlite import prepare


def connect(url: SecretStr, must_exist: bool = False) -> Engine:
    """Return an engine for `url`; SQLite's folder is made where it is missing, mode 0700.

    Args:
        url: SQLAlchemy's address of the database.
        must_exist: whether a SQLite file that is not there is refused, or made.

    Raises:
        ConfigError: the file is not there, the address cannot be read, or its driver is not installed.
    """
    try:
        parsed = make_url(url.get_secret_value())
        sqlite = parsed.get_backend_name() == "sqlite"
        engine = create_engine(parsed, pool_pre_ping=not sqlite, hide_parameters=True)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise ConfigError(
            [f"database_url cannot be used: {type(error).__name__}: give sqlite:///path"]
        ) from None
    if not sqlite:
        return engine
    if parsed.database and parsed.database != ":memory:":
        _look_after(Path(parsed.database), must_exist)
    return prepare(engine)


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
