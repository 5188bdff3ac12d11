"""What must be in order before anything starts."""

from __future__ import annotations

from config import Configuration, Settings

from . import schema
from .database import connect


def check_ready(configuration: Configuration) -> None:
    """Refuse to start on a configuration or a database this release does not work with.

    Raises:
        UnsupportedSchema: there are no tables, or they are of another release.
        DatabaseAway: the database does not answer.
        ConfigError: the database's address cannot be used.
        SecretMissing: a destination's password is not to be had.
    """
    for destination in configuration.destinations.values():
        destination.secret()
    check_tables(configuration.settings)


def check_tables(settings: Settings) -> None:
    """Refuse to start on a database this release does not work with.

    Raises:
        UnsupportedSchema: there are no tables, or they are of another release.
        DatabaseAway: the database does not answer.
        ConfigError: the database's address cannot be used.
    """
    engine = connect(settings.database_address(), must_exist=True)
    try:
        schema.check(engine)
    finally:
        engine.dispose()
