"""Putting an engine together from the configuration."""

from __future__ import annotations

from config import Configuration

from . import schema
from .database import connect
from .engine import Engine
from .ports import Announce, Wake
from .store.transactions import Store
from .transport import Transport


def build_engine(configuration: Configuration, wake: Wake, announce: Announce) -> Engine:
    """Return an engine with connections of its own; call it after a fork, in the engine's loop."""
    store = Store(connect(configuration.settings.database_url))
    return Engine(store, configuration, Transport(), wake, announce)


def check_ready(configuration: Configuration) -> None:
    """Refuse to start on a database this release does not work with.

    Raises:
        UnsupportedSchema: there are no tables, or they are of another release.
        ConfigError: the database's address cannot be used.
        SecretMissing: a destination's password is not to be had.
    """
    for destination in configuration.destinations.values():
        destination.secret()
    engine = connect(configuration.settings.database_url)
    try:
        schema.check(engine)
    finally:
        engine.dispose()
