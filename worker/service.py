"""Putting an engine together from the configuration."""

from __future__ import annotations

from config import Configuration

from .database import connect
from .engine import Engine
from .ports import Announce, Wake
from .store.transactions import Store
from .transport import Transport


def build_engine(configuration: Configuration, wake: Wake, announce: Announce) -> Engine:
    """Return an engine with connections of its own; call it after a fork, in the engine's loop."""
    store = Store(connect(configuration.settings.database_address(), prepares=True))
    return Engine(store, configuration, Transport(), wake, announce)
