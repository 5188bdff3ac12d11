"""What tests share: a real database with the tables in it, on both kinds of server, and patience."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from tests.databases import Databases
from tests.postgres import Postgres
from tests.rig import Place, eventually
from worker import schema
from worker.database import connect
from worker.store.transactions import Store

LONGEST = (
    "test_readme",
    "test_kills",
    "test_many_workers",
    "test_database_restarts",
    "test_proof",
    "test_canary",
    "test_wheel",
    "test_typing",
)
"""Files that take long for few tests: begun first, they keep nobody waiting at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the settings of whoever runs the tests out of them, and their files out of the project."""
    for name in [name for name in os.environ if name.startswith(("OUTBOX_", "FLOWER_", "ORDERFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OUTBOX_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("OUTBOX_DATABASE_URL", f"sqlite:///{tmp_path}/outbox.db")
    monkeypatch.setenv("ORDERFLOW_MAIN_PASSWORD", "demo")


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """The databases of one PostgreSQL, started when the first test asks for it."""
    with Postgres.running() as server:
        yield Databases(server)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The address of a database of this test's own, on either kind of server."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/outbox.db"
        return
    databases: Databases = request.getfixturevalue("databases")
    name = databases.take()
    url = databases.server.url(name)
    monkeypatch.setenv("OUTBOX_DATABASE_URL", url)
    others = set(threading.enumerate())
    yield url
    eventually(lambda: not _unfinished(others), what="an engine that has stopped finishes what it had begun")
    databases.give_back(name)


def _unfinished(others: set[threading.Thread]) -> list[threading.Thread]:
    """Return the threads of engines, but for `others`: they would write to the next test's database."""
    return [each for each in threading.enumerate() if each.name.startswith("outbox-") and each not in others]


@pytest.fixture
def place(tmp_path: Path, database_url: str) -> Place:
    """A folder and a database for a rig, on either kind of server."""
    return Place(tmp_path, database_url)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A database with the outbox tables, as a shop would open it."""
    engine = connect(SecretStr(database_url))
    schema.upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> Store:
    """The service's view of the same database."""
    return Store(engine)
