"""The service's connection to the database that holds the outbox tables."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from config import ConfigError
from orderflow_outbox.sqlite import prepare


def connect(url: SecretStr) -> Engine:
    """Return an engine for `url`; SQLite's folder is made where it is missing, mode 0700.

    Raises:
        ConfigError: the address cannot be read, or its driver is not installed.
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
        _make_folder(Path(parsed.database).parent)
    return prepare(engine)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            [f"database_url cannot be used: its folder {folder} is not to be had ({error.strerror})"]
        ) from None
