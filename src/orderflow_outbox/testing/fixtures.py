"""Fixtures for pytest, taken by `pytest_plugins = ["orderflow_outbox.testing.fixtures"]`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from . import memory_database


@pytest.fixture
def outbox_engine() -> Iterator[Engine]:
    """An empty database in memory, with the outbox tables."""
    engine = memory_database()
    yield engine
    engine.dispose()


@pytest.fixture
def outbox_session(outbox_engine: Engine) -> Iterator[Session]:
    """A session on `outbox_engine`, closed at the end of the test."""
    with Session(outbox_engine) as session:
        yield session
