"""A broker that is restarted, cut off or frozen: delivery goes on, workers come back, the log stays short.

One worker lives through each kind of outage, all at the same time; each test then asks one thing of it.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.events import EventDispatcher

import config
from orderflow_outbox.publishing import Publisher
from tasks import connecting, watching
from tasks.app import make_app
from tasks.beating import Scheduler
from tests.brokers import LOCALHOST, Proxy, RedisServer, deliver_by_hints, listening
from tests.rig import Place, Rig, WorkerProcess, eventually, rig
from worker.switch import LoggedSwitch

CHILDREN = 2
MEASURED_SECONDS = 5.0
BACK_SECONDS = 30.0
MOST_OF_A_CORE = 0.10
CANNOT = "cannot be used; messages are delivered without it"
CAN = "can be used again"
LINE = re.compile(r"^\[\S+ \S+ (?P<level>\w+)/(?P<process>[\w-]+)\] (?P<text>.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Story:
    """What a worker did while its broker was away, and after.

    Attributes:
        delivered: whether every order taken meanwhile was delivered meanwhile.
        core: the share of one core that all its processes took meanwhile.
        woken_after: seconds from the broker's return until hints woke it.
        heard_after: seconds from the broker's return until its events came.
        log: what it wrote from the beginning of the outage on.
    """

    delivered: bool
    core: float
    woken_after: float
    heard_after: float
    log: str


def cpu_seconds(worker: WorkerProcess) -> float:
    """Return the processor time that all processes of a worker took so far."""
    ticks = 0
    for process in (worker.process.pid, *worker.children()):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def restarted(folder: Path) -> Iterator[tuple[int, Callable[[], None], Callable[[], None]]]:
    with RedisServer(folder) as server:
        yield server.port, server.kill, server.start


@contextmanager
def frozen(folder: Path) -> Iterator[tuple[int, Callable[[], None], Callable[[], None]]]:
    with RedisServer(folder) as server:
        yield server.port, server.freeze, server.thaw


@contextmanager
def cut_off(folder: Path) -> Iterator[tuple[int, Callable[[], None], Callable[[], None]]]:
    with RedisServer(folder) as server, Proxy.running(server.port) as proxy:
        yield proxy.port, proxy.cut, proxy.heal


@contextmanager
def swallowed(folder: Path) -> Iterator[tuple[int, Callable[[], None], Callable[[], None]]]:
    with RedisServer(folder) as server, Proxy.running(server.port) as proxy:
        yield proxy.port, proxy.swallow, proxy.heal


OUTAGES = [restarted, cut_off, frozen, swallowed]


def live_through(
    made: Rig, worker: WorkerProcess, away: Callable[[], None], back: Callable[[], None]
) -> Story:
    """Take a worker's broker away until the worker says so, and give it back."""
    eventually(lambda: worker.said(" ready."))
    app = make_app(config.load_settings(made.file))
    deliver_by_hints(made, app, orders=5)
    written = len(worker.log.read_text())
    away()
    made.orders(20)
    delivered = eventually(lambda: made.states() == {"delivered"}, 10, f"{away}")
    begun, used = time.monotonic(), cpu_seconds(worker)
    eventually(lambda: time.monotonic() - begun > MEASURED_SECONDS and worker.said(CANNOT))
    core = (cpu_seconds(worker) - used) / (time.monotonic() - begun)
    back()
    returned = time.monotonic()
    woken_after = until_woken(made, app) - returned
    with listening(app) as heard:
        eventually(lambda: made.order(f"SO-{time.monotonic_ns()}") and "task-succeeded" in heard)
    heard_after = time.monotonic() - returned
    eventually(lambda: worker.said(CAN))
    return Story(delivered, core, woken_after, heard_after, worker.log.read_text()[written:])


def until_woken(made: Rig, app: Any) -> float:
    """Return the moment from which on orders were delivered sooner than by looking once a second."""

    def is_woken() -> bool:
        try:
            return deliver_by_hints(made, app, orders=4) < 1
        except connecting.OperationalError:
            return False

    eventually(is_woken, BACK_SECONDS * 2)
    return time.monotonic()


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Any, Future[Story]]]:
    """Every kind of outage, each with a worker of its own."""
    begun = {}
    with ExitStack() as stack, ThreadPoolExecutor(len(OUTAGES)) as threads:
        for outage in OUTAGES:
            folder = tmp_path_factory.mktemp(outage.__name__)
            port, away, back = stack.enter_context(outage(folder))
            place = Place(folder, f"sqlite:///{folder}/outbox.db")
            made = stack.enter_context(rig(place, broker_url=f"redis://{LOCALHOST}:{port}/0"))
            worker = stack.enter_context(made.worker(CHILDREN))
            begun[outage] = threads.submit(live_through, made, worker, away, back)
        yield begun


@pytest.fixture(params=OUTAGES, ids=lambda outage: outage.__name__)
def story(request: pytest.FixtureRequest, stories: dict[Any, Future[Story]]) -> Story:
    return stories[request.param].result()


def test_messages_are_delivered_while_the_broker_is_away(story: Story) -> None:
    assert story.delivered


def test_a_worker_without_its_broker_does_not_spin(story: Story) -> None:
    assert story.core < MOST_OF_A_CORE


def test_a_worker_whose_broker_is_back_is_woken_by_hints_again(story: Story) -> None:
    assert story.woken_after < BACK_SECONDS


def test_a_worker_whose_broker_is_back_is_heard_again(story: Story) -> None:
    assert story.heard_after < BACK_SECONDS


def test_a_broker_that_goes_and_comes_back_is_told_in_one_line_each(story: Story) -> None:
    said: dict[str, list[str]] = {}
    for line in LINE.finditer(story.log):
        said.setdefault(line["process"], []).append(line["text"])
    gone, back = said.pop("MainProcess")
    assert CANNOT in gone
    assert CAN in back
    for lines in said.values():
        assert [line.partition("; ")[0].partition(":")[0] for line in lines] in (
            ["the broker does not take all hints and events", "the broker takes hints and events again"],
            ["the broker does not take all hints and events"],
        )
    assert "Traceback" not in story.log


def test_a_worker_outlives_a_broker_that_goes_while_hints_are_under_way(tmp_path: Path) -> None:
    place = Place(tmp_path, f"sqlite:///{tmp_path}/outbox.db")
    with (
        RedisServer(tmp_path) as server,
        rig(place, broker_url=f"redis://{LOCALHOST}:{server.port}/0") as made,
        made.worker(CHILDREN) as worker,
    ):
        eventually(lambda: worker.said(" ready."))
        app = make_app(config.load_settings(made.file))
        client = redis.Redis(port=server.port)
        children = worker.children()
        for child in children:
            os.kill(child, signal.SIGSTOP)
        for _ in range(CHILDREN + 1):  # frozen children hear one each, at most
            Publisher(app)()
        eventually(lambda: client.hlen("unacked") >= 1)
        # So that it meets the loss of the other connection first.
        worker.process.send_signal(signal.SIGSTOP)
        client.client_kill_filter(_type="pubsub")
        server.kill()
        worker.process.send_signal(signal.SIGCONT)
        eventually(lambda: worker.said(CANNOT))
        for child in children:
            os.kill(child, signal.SIGCONT)
        server.start()
        eventually(lambda: worker.said(CAN))
        assert worker.children() == children
        assert deliver_by_hints(made, app) < 8
        assert not worker.said("Traceback")


def test_children_that_die_while_the_broker_is_away_are_replaced(tmp_path: Path) -> None:
    place = Place(tmp_path, f"sqlite:///{tmp_path}/outbox.db")
    with RedisServer(tmp_path) as server:
        port = server.port
        server.kill()
        with rig(place, broker_url=f"redis://{LOCALHOST}:{port}/0") as made, made.worker() as worker:
            for n in range(2):
                made.order(f"SO-{n}")
                eventually(lambda: made.states() == {"delivered"})
                (child,) = worker.children()
                os.kill(child, signal.SIGKILL)
            made.order("SO-2")
            eventually(lambda: made.states() == {"delivered"})
            server.start()
            eventually(lambda: worker.said(" ready."))
            assert deliver_by_hints(made, make_app(config.load_settings(made.file))) < 8


# How long tries are apart


class Refusing:
    """A connection that is refused a thousand times."""

    connection_errors = (ConnectionError,)
    channel_errors = (LookupError,)

    def __init__(self, now: Callable[[], float]) -> None:
        self.tries: list[float] = []
        self._now = now

    def ensure_connection(self, max_retries: int) -> Refusing:
        assert max_retries == 0, "it would wait by itself"
        self.tries.append(self._now())
        if len(self.tries) <= 1000:
            raise (ConnectionError, LookupError)[len(self.tries) % 2]
        return self


def test_after_any_length_of_outage_the_next_try_is_seconds_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slept: list[float] = []
    looked: list[int] = []
    monkeypatch.setattr(connecting.time, "sleep", slept.append)
    connection = Refusing(lambda: sum(slept))
    usable = LoggedSwitch(logging.getLogger("test"), "on", "off")
    assert connecting.connect_patiently(connection, usable, lambda: looked.append(1)) is connection
    apart = [later - earlier for earlier, later in itertools.pairwise(connection.tries)]
    assert min(apart) >= 1
    assert max(apart) + connecting.ANSWER_SECONDS < BACK_SECONDS / 3
    assert max(slept) <= 1, "a stop is noticed within a second"
    assert len(looked) == len(slept)
    assert len(caplog.records) == 1


# Beat


def test_beat_says_once_that_its_broker_is_away_and_once_that_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def come_due() -> None:
        scheduler.schedule["sweep"].last_run_at -= timedelta(minutes=1)
        scheduler.populate_heap()
        scheduler.tick()

    with RedisServer(tmp_path) as server:
        (tmp_path / "outbox.toml").write_text(f'broker_url = "redis://{LOCALHOST}:{server.port}/0"\n')
        app = make_app(config.load_settings(tmp_path / "outbox.toml"))
        scheduler = Scheduler(app=app, schedule_filename=str(tmp_path / "schedule"))
        server.kill()
        begun = time.monotonic()
        for _ in range(3):
            come_due()
        assert time.monotonic() - begun < 3
        server.start()
        for _ in range(3):
            come_due()
        assert redis.Redis(port=server.port).llen("orderflow") == 3
        gone, back = (record.getMessage() for record in caplog.records if record.name == "tasks.beating")
        assert CANNOT in gone
        assert CAN in back
        scheduler.close()


# Flower


class Loop:
    """The event loop of a Flower, which only counts what it is handed."""

    def __init__(self) -> None:
        self.handed = 0

    def add_callback(self, _call: Callable[[], None]) -> None:
        self.handed += 1


def test_flower_hears_again_after_its_broker_was_restarted_and_says_both_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer(tmp_path) as server:
        (tmp_path / "outbox.toml").write_text(f'broker_url = "redis://{LOCALHOST}:{server.port}/0"\n')
        app = make_app(config.load_settings(tmp_path / "outbox.toml"))
        loop = Loop()
        watching.Events(app, loop, enable_events=False, max_tasks_in_memory=10).start()

        def heard() -> bool:
            with connecting.connection_to_publish(app) as connection:
                EventDispatcher(connection, "test@here", app=app).send("worker-heartbeat")
            return loop.handed > before

        before = 0
        eventually(heard)
        server.kill()
        eventually(lambda: CANNOT in caplog.text)
        server.start()
        before = loop.handed
        begun = time.monotonic()
        eventually(heard)
        assert time.monotonic() - begun < 10
        gone, back = (record.getMessage() for record in caplog.records if record.name == "tasks.watching")
        assert CANNOT in gone
        assert CAN in back
