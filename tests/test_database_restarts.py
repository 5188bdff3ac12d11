"""The database goes away and comes back: workers wait quietly, go on by themselves, and lose nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.brokers import Proxy
from tests.postgres import USER, Postgres
from tests.rig import PROJECT, Place, Rig, WorkerProcess, engine_of, eventually, rig
from worker.broker import EmbeddedBroker

SLOW = "slow:1.0:delay=0.1"
AWAY_SECONDS = 4.0
BACK_SECONDS = 30.0
BUSY_SHARE = 0.25
"""What waiting may take of one core, for a whole worker with its children."""
CHILDREN = 2


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server of this test's own, to be stopped at will."""
    with Postgres.running() as server:
        server.execute("CREATE DATABASE outbox")
        yield server


@contextmanager
def at_work(
    server: Postgres, folder: Path, through: Proxy | None = None
) -> Iterator[tuple[Rig, WorkerProcess]]:
    """A rig in the middle of its deliveries."""
    url = server.url("outbox") if through is None else f"postgresql://{USER}@127.0.0.1:{through.port}/outbox"
    with (
        rig(Place(folder, url)) as made,
        EmbeddedBroker(folder / "state"),
        made.worker(CHILDREN) as worker,
    ):
        made.simulator.set_faults([SLOW])
        made.orders(60)
        eventually(lambda: len(made.simulator.ledger.requests) >= 10)
        yield made, worker


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


def restart(server: Postgres, how: signal.Signals, meanwhile: Callable[[], None]) -> None:
    server.stop(how)
    meanwhile()
    server.start()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
def test_workers_come_back_by_themselves_after_a_restart_of_the_database(
    server: Postgres, tmp_path: Path, how: signal.Signals
) -> None:
    with at_work(server, tmp_path) as (made, worker):
        restart(server, how, lambda: assert_waits_quietly(worker))
        made.engine.dispose()
        made.order("SO-60")
        assert_all_arrive(made, 61)
        assert worker.terminate() == 0
        said = worker.log.read_text()
        for gone, back in (
            ("the database does not answer", "the database answers"),
            ("results cannot be written", "results are written again"),
        ):
            assert said.count(gone) <= CHILDREN, "one line for each engine, not for each try"
            assert said.count(gone) == said.count(back)
        assert said.count("the database does not answer") == CHILDREN


def test_workers_come_back_by_themselves_after_a_cut_of_the_line_to_the_database(
    server: Postgres, tmp_path: Path
) -> None:
    with Proxy.running(server.listens_at) as line, at_work(server, tmp_path, line) as (made, worker):
        line.cut()
        assert_waits_quietly(worker)
        line.heal()
        assert_all_arrive(made, 60)
        assert worker.terminate() == 0
        assert worker.log.read_text().count("the database does not answer") == CHILDREN


def test_workers_go_on_after_a_freeze_of_the_database(server: Postgres, tmp_path: Path) -> None:
    with at_work(server, tmp_path) as (made, worker):
        server.freeze()
        assert_waits_quietly(worker)
        server.thaw()
        assert_all_arrive(made, 60)
        assert worker.terminate() == 0


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
    with at_work(server, tmp_path) as (made, worker):
        server.freeze()
        try:
            assert worker.terminate(25) == 0
        finally:
            server.thaw()
        with made.worker():
            assert_all_arrive(made, 60)


def test_a_worker_says_in_one_line_that_the_database_is_not_there(server: Postgres, tmp_path: Path) -> None:
    with rig(Place(tmp_path, server.url("outbox"))) as made:
        server.stop()
        done = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--concurrency=1"],
            cwd=PROJECT,
            env=made.environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("the database does not answer")
        server.start()
