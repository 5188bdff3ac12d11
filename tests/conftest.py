"""What tests share: a real database with the tables in it, on both kinds of server, and patience."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any

import pytest
import typer.main
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, event

from tests.databases import Databases, empty_file
from tests.postgres import Postgres
from tests.rig import PROJECT, Place, eventually
from tests.steps import Clock
from worker import schema
from worker.database import connect
from worker.store.transactions import Store

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LONGEST = (
    "test_readme",
    "test_demo",
    "test_browser",
    "test_proof",
    "test_quarantine",
    "test_many_workers",
    "test_kills",
    "test_database_restarts",
    "test_broker_outages",
    "test_database_disasters",
    "test_deployed",
    "test_flower_pages",
    "test_canary",
    "test_house",
    "test_wheel",
    "test_brokers",
    "test_broker_faults",
    "test_clock_jumps",
    "test_typing",
    "test_bench",
)
"""Files that take long for few tests: begun first, they keep nobody waiting at the end."""
BEGUN = pytest.StashKey[float]()
"""When the session did, by the monotonic clock."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--budget", type=float, metavar="MINUTES", help="begin no test after so many minutes")


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[BEGUN] = time.monotonic()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Run in the background of a shell: all that tests start would ignore it, too.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin nothing once the time is spent that was given; what is left out is told."""
    minutes = item.config.getoption("--budget")
    if minutes is not None and time.monotonic() > item.config.stash[BEGUN] + 60 * minutes:
        pytest.skip(f"the {minutes:g} minutes are over")


def pytest_collection(session: pytest.Session) -> None:
    """Have each worker of xdist compile a part of the files for all: else each would compile all of them."""
    part = getattr(session.config, "workerinput", None)
    if part is None or sys.dont_write_bytecode or session.config.args != session.config.getini("testpaths"):
        return
    files = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))
    for name in files[int(part["workerid"].removeprefix("gw")) :: part["workercount"]]:
        with suppress(Exception, pytest.skip.Exception):  # the collection tells what is wrong with it
            importlib.import_module(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    items.sort(key=lambda item: _place_of(item.path.stem))


def pytest_collection_finish() -> None:
    """Look for garbage no more in what was imported and collected, which took a seventh of the time."""
    gc.freeze()


def _place_of(file: str) -> int:
    return LONGEST.index(file) if file in LONGEST else len(LONGEST)


class _CompiledOnce(dict[Any, Any]):
    """Statements, compiled for any engine of the same kind: each test makes one of its own."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_for_its_kind(key), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(_for_its_kind(key), compiled)


def _for_its_kind(key: Any) -> tuple[Any, ...]:
    dialect, *statement = key
    return (type(dialect), *statement)


@pytest.fixture(autouse=True, scope="session")
def _each_statement_is_compiled_once() -> Iterator[None]:
    """Let engines share what they compile, which takes a third of a test's time."""
    compiled = _CompiledOnce()

    def share(connection: Connection) -> None:
        connection.execution_options(compiled_cache=compiled)

    event.listen(Engine, "engine_connect", share)
    yield
    event.remove(Engine, "engine_connect", share)


@pytest.fixture(autouse=True, scope="session")
def _the_command_line_is_built_once() -> Iterator[None]:
    """Build the commands from what they are declared as once: it takes as long as a short one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@pytest.fixture(autouse=True, scope="session")
def _authorities_are_not_read() -> Iterator[None]:
    """Trust those alone that a test names: each client would read all of the machine's, which takes 40 ms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", os.devnull)
        yield


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the settings of whoever runs the tests out of them, and their files out of the project."""
    for name in [name for name in os.environ if name.startswith(("OUTBOX_", "FLOWER_", "ORDERFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OUTBOX_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("OUTBOX_DATABASE_URL", f"sqlite:///{tmp_path}/outbox.db")
    monkeypatch.setenv("ORDERFLOW_MAIN_PASSWORD", "demo")


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have processes that are started die, or hang, of what is poisoned for the tests."""
    path = (str(PROJECT / "tests" / "poison"), str(PROJECT), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """The databases of one PostgreSQL, started when the first test asks for it."""
    with Postgres.running() as server, closing(Databases(server)) as lent:
        yield lent


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the tables in it, made when the first test asks for it."""
    return empty_file(tmp_path_factory.mktemp("empty"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser of the system, for the tests of one file: its driver holds the event loop of the thread."""
    from tests.browsers import running_browser  # only who drives it waits for this to be read

    with running_browser() as browser:
        yield browser


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The address of a database of this test's own, on either kind of server."""
    if request.param == "sqlite":
        copyfile(request.getfixturevalue("empty_sqlite"), tmp_path / "outbox.db")
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
def clock() -> Clock:
    """A clock that a test's own store may go by; it stands still until it is moved."""
    return Clock()


@pytest.fixture
def store(engine: Engine) -> Store:
    """The service's view of the same database."""
    return Store(engine)
