"""What tests share: a real database with the tables in it, documents of OrderFlow's shape, and patience."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from worker import schema
from worker.database import connect
from worker.store.transactions import Store


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the settings of whoever runs the tests out of them, and their files out of the project."""
    for name in [name for name in os.environ if name.startswith(("OUTBOX_", "FLOWER_", "ORDERFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OUTBOX_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("OUTBOX_DATABASE_URL", f"sqlite:///{tmp_path}/outbox.db")
    monkeypatch.setenv("ORDERFLOW_MAIN_PASSWORD", "demo")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database with the outbox tables, as a shop would open it."""
    engine = connect(SecretStr(f"sqlite:///{tmp_path}/outbox.db"))
    schema.upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> Store:
    """The service's view of the same database."""
    return Store(engine)
