"""The database goes away and comes back: workers wait quietly, go on by themselves, and lose nothing."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import Proxy
from tests.nursery import run
from tests.postgres import USER, Postgres
from tests.rig import Place, Rig, WorkerProcess, engine_of, eventually, rig
from worker.broker import EmbeddedBroker

SLOW = "slow:1.0:delay=0.1"
ORDERS = 16
AWAY_SECONDS = 3.0
BACK_SECONDS = 30.0
BUSY_SHARE = 0.25
"""What waiting may take of one core, for a whole worker with its children."""
CHILDREN = 2


@pytest.fixture(scope="module")
def own_server() -> Iterator[Postgres]:
    """A server of these tests' own, to be stopped at will."""
    with Postgres.running() as server:
        yield server


@pytest.fixture
def server(own_server: Postgres) -> Postgres:
    """The same with an empty database."""
    own_server.execute("DROP DATABASE IF EXISTS outbox WITH (FORCE)")
    own_server.execute("CREATE DATABASE outbox")
    return own_server


@contextmanager
def at_work(
    server: Postgres, folder: Path, through: Proxy | None = None, **settings: Any
) -> Iterator[tuple[Rig, WorkerProcess]]:
    """A rig in the middle of its deliveries."""
    url = server.url("outbox") if through is None else f"postgresql://{USER}@127.0.0.1:{through.port}/outbox"
    with (
        rig(Place(folder, url), **settings) as made,
        EmbeddedBroker(folder / "state"),
        made.worker(CHILDREN) as worker,
    ):
        made.simulator.set_faults([SLOW])
        take_orders(made, range(ORDERS))
        yield made, worker


def take_orders(made: Rig, numbers: range) -> None:
    """Take orders, and wait until some of them are on their way."""
    before = len(made.simulator.ledger.requests)
    for number in numbers:
        made.order(f"SO-{number}")
    eventually(lambda: len(made.simulator.ledger.requests) >= before + 8)


def cpu_seconds(worker: WorkerProcess) -> float:
    ticks = 0
    for process in (worker.process.pid, *worker.children()):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def assert_waits_quietly(worker: WorkerProcess) -> None:
    """The worker spends next to nothing while there is nothing it can do."""
    begun, before = time.monotonic(), cpu_seconds(worker)
    eventually(lambda: time.monotonic() - begun >= AWAY_SECONDS)
    assert cpu_seconds(worker) - before < BUSY_SHARE * (time.monotonic() - begun)


def assert_all_arrive(made: Rig, orders: int, seconds: float = BACK_SECONDS) -> None:
    made.engine.dispose()  # the test's own connections were cut as well
    eventually(lambda: made.states() == {"delivered"}, seconds)
    taken_in = Counter(each.reference for each in made.simulator.ledger.accepted)
    assert taken_in == Counter(f"SO-{n}" for n in range(orders))


@contextmanager
def stopped(server: Postgres, _line: Proxy) -> Iterator[None]:
    server.stop(signal.SIGINT)
    yield
    server.start()


@contextmanager
def crashed(server: Postgres, _line: Proxy) -> Iterator[None]:
    server.stop(signal.SIGQUIT)
    yield
    server.start()


@contextmanager
def cut_off(_server: Postgres, line: Proxy) -> Iterator[None]:
    line.cut()
    yield
    line.heal()


@contextmanager
def frozen(server: Postgres, _line: Proxy) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


def test_workers_wait_quietly_for_the_database_and_come_back_by_themselves(
    server: Postgres, tmp_path: Path
) -> None:
    """One worker lives through all that befalls it, one after the other."""
    with Proxy.running(server.listens_at) as line, at_work(server, tmp_path, line) as (made, worker):
        orders = ORDERS
        for away in (stopped, crashed, cut_off, frozen):
            told_before, last = told(worker), orders + ORDERS - 1
            take_orders(made, range(orders, last))
            with away(server, line):
                assert_waits_quietly(worker)
            made.engine.dispose()
            made.order(f"SO-{last}")
            orders += ORDERS
            assert_all_arrive(made, orders)
            assert_is_told_once(worker, told_before, is_seen=away is not frozen)
        assert worker.terminate() == 0


TOLD = (
    "the database does not answer",
    "the database answers",
    "results cannot be written",
    "results are written again",
)


def told(worker: WorkerProcess) -> Counter[str]:
    """Return how often a worker has told of what befell its database."""
    said = worker.log.read_text()
    return Counter({each: said.count(each) for each in TOLD})


def assert_is_told_once(worker: WorkerProcess, before: Counter[str], *, is_seen: bool) -> None:
    """An engine tells in one line each that the database is gone, and back, and not for each try."""
    away, back, unwritten, written = TOLD

    def since() -> Counter[str]:
        return told(worker) - before

    eventually(lambda: (now := since())[away] == now[back] and now[unwritten] == now[written])
    assert since()[unwritten] <= CHILDREN
    # What one connection was told just before the database went may come after the other's loss.
    assert CHILDREN <= since()[away] <= 2 * CHILDREN or not is_seen


def test_a_database_that_keeps_its_connections_and_says_no_word_is_told(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("worker.engine.SILENCE_SECONDS", 0.5)
    monkeypatch.setenv("OUTBOX_DATABASE_URL", server.url("outbox"))
    with rig(Place(tmp_path, server.url("outbox"))) as made, engine_of(made):
        made.order("SO-0")
        eventually(lambda: made.states() == {"delivered"})
        server.freeze()
        try:
            eventually(lambda: "the database does not answer: TimeoutError: no word for 0.5 s" in caplog.text)
        finally:
            server.thaw()
        eventually(lambda: "the database answers" in caplog.text)
        assert caplog.text.count("the database does not answer") == 1


def test_a_worker_stops_within_its_bound_although_the_database_is_frozen(
    server: Postgres, tmp_path: Path
) -> None:
    with at_work(server, tmp_path, drain="200ms") as (made, worker):
        server.freeze()
        try:
            assert worker.terminate(25) == 0
        finally:
            server.thaw()
        with made.worker():
            assert_all_arrive(made, ORDERS)


def test_a_worker_says_in_one_line_that_the_database_is_not_there(server: Postgres, tmp_path: Path) -> None:
    with rig(Place(tmp_path, server.url("outbox"))) as made:
        server.stop()
        done = run("celery", "-A", "tasks", "worker", "--concurrency=1", env=made.environment, timeout=30)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("the database does not answer")
        server.start()
