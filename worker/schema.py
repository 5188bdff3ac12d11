"""Making the tables, and refusing to work on tables of another release."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from orderflow_outbox.errors import OutboxError
from orderflow_outbox.schema import CURRENT_VERSION, OLDEST_SUPPORTED_VERSION, VERSION_TABLE

MIGRATIONS = Path(__file__).parent / "migrations"


class UnsupportedSchema(OutboxError):
    """The database's tables are older or newer than this release works with."""

    def __init__(self, found: int | None) -> None:
        self.found = found
        what = "no outbox tables" if found is None else f"outbox tables of version {found}"
        newer = found is not None and found > CURRENT_VERSION
        fix = "install a newer release" if newer else "run `python -m worker db upgrade`"
        super().__init__(
            f"the database has {what}, and this release works with version "
            f"{OLDEST_SUPPORTED_VERSION} to {CURRENT_VERSION}: {fix}"
        )


class DatabaseAway(OutboxError):
    """The database does not answer."""


def upgrade(engine: Engine) -> int:
    """Bring the tables to the current version; return the version there was before (0 for none)."""
    before = version_of(engine) or 0
    if before > CURRENT_VERSION:
        raise UnsupportedSchema(before)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before


def version_of(engine: Engine) -> int | None:
    """Return the version of the database's outbox tables, None where there are none."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        revision = context.get_current_revision()
    return None if revision is None else int(revision)


def check(engine: Engine) -> None:
    """Look whether this release works with the database's tables.

    Raises:
        UnsupportedSchema: it does not.
        DatabaseAway: there is no telling, since the database does not answer.
    """
    try:
        found = version_of(engine)
    except OperationalError as error:
        raise DatabaseAway(" ".join(f"the database does not answer: {error.orig}".split())) from None
    if found is None or not OLDEST_SUPPORTED_VERSION <= found <= CURRENT_VERSION:
        raise UnsupportedSchema(found)
