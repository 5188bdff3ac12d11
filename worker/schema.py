"""Making the tables, and refusing to work on tables of another release."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from orderflow_outbox import schema
from orderflow_outbox.errors import OutboxError
from orderflow_outbox.schema import check_version
from orderflow_outbox.tables import CURRENT_VERSION

from .database import trouble
from .store import text_index

MIGRATIONS = Path(__file__).parent / "migrations"


class DatabaseAway(OutboxError):
    """The database does not answer."""


def upgrade(engine: Engine) -> int:
    """Bring the tables to the current version; return the version there was before (0 for none).

    The index of texts is made too, where the database lets it.
    """
    before = version_of(engine) or 0
    if before > CURRENT_VERSION:
        check_version(before)
    with engine.begin() as connection:
        if before < CURRENT_VERSION:
            _migrate(connection)
        text_index.ensure(connection)
    return before


def _migrate(connection: Connection) -> None:
    # Only who upgrades waits for this to be read: every command and child starts by the other functions.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def version_of(engine: Engine) -> int | None:
    """Return the version of the database's outbox tables, None where there are none."""
    with engine.connect() as connection:
        return schema.version_of(connection)


def check(engine: Engine) -> None:
    """Look whether this release works with the database's tables.

    Raises:
        UnsupportedSchema: it does not.
        DatabaseAway: there is no telling, since the database does not answer.
    """
    try:
        found = version_of(engine)
    except OperationalError as error:
        raise DatabaseAway(trouble(error)) from None
    check_version(found)
