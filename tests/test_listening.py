"""Hints that are called out: heard at once by one engine that listens, else given as a task."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from orderflow_outbox import publishing
from orderflow_outbox.calling import CALLS, call
from orderflow_outbox.publishing import MAX_WAITING, QUEUE, TASK, Publisher
from tasks import listening
from tasks.connecting import broker_options
from tasks.listening import Listener
from tests.brokers import Proxy, RedisServer, deliver_by_hints, waiting
from tests.databases import on_sqlite
from tests.rig import Place, eventually, rig

LISTENING = "outbox-listener"
BACK_SECONDS = 0.05
"""A listener that has heard a call waits for the next within this time, and much less."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


def app_to(port: int, user: str = "") -> Celery:
    url = f"redis://{user}127.0.0.1:{port}/0"
    return Celery(broker=url, set_as_current=False, broker_transport_options=broker_options(url))


class Ear:
    """Counts how often it was woken."""

    def __init__(self) -> None:
        self.woken = 0

    def __call__(self) -> None:
        self.woken += 1


@contextmanager
def listener(app: Celery) -> Iterator[Ear]:
    """Listen for the length of the block."""
    ear = Ear()
    before = set(threading.enumerate())
    made = Listener(app, ear)
    yield ear
    made.stop()
    for thread in set(threading.enumerate()) - before:
        if thread.name == LISTENING:
            thread.join(10)
            assert not thread.is_alive()


def listening_at(server: RedisServer) -> int:
    """Return how many connections wait for a call."""
    return sum(each["cmd"] == "brpop" for each in redis.Redis(port=server.port).client_list())


def hears_again(connection: Any) -> bool:
    """Tell whether one of a few calls is heard, of which a listener may be late for the first."""
    for _ in range(5):
        if call(connection):
            return True
        time.sleep(BACK_SECONDS)
    return False


def test_a_hint_that_an_engine_hears_leaves_no_task(server: RedisServer) -> None:
    app = app_to(server.port)
    with listener(app) as ear:
        eventually(lambda: listening_at(server) == 1)
        assert Publisher(app)()
        eventually(lambda: ear.woken == 1)
    assert waiting(server) == []


def test_a_hint_that_nobody_hears_waits_as_a_task(server: RedisServer) -> None:
    assert Publisher(app_to(server.port))()
    assert waiting(server) == [TASK]


def test_a_queue_full_of_hints_keeps_none_from_an_engine_that_listens(server: RedisServer) -> None:
    app = app_to(server.port)
    publish = Publisher(app)
    while publish():
        pass
    with listener(app) as ear:
        eventually(lambda: listening_at(server) == 1)
        assert publish()
        eventually(lambda: ear.woken == 1)
    assert waiting(server) == [TASK] * MAX_WAITING


def test_each_hint_wakes_one_engine_and_each_engine_has_its_turn(server: RedisServer) -> None:
    app = app_to(server.port)
    publish = Publisher(app)
    with listener(app) as one, listener(app) as other:
        for n in range(1, 6):
            eventually(lambda: listening_at(server) == 2)
            assert publish()
            eventually(lambda n=n: one.woken + other.woken == n)
    assert {one.woken, other.woken} == {2, 3}
    assert waiting(server) == []


def test_a_listener_hears_again_once_its_broker_is_back(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "RETRY_SECONDS", 0.1)
    app = app_to(server.port)
    with listener(app) as ear:
        eventually(lambda: listening_at(server) == 1)
        server.kill()
        server.start()
        eventually(lambda: listening_at(server) == 1)
        assert Publisher(app)()
        eventually(lambda: ear.woken == 1)


def test_a_listener_hears_again_although_its_connection_was_cut(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "RETRY_SECONDS", 0.1)
    with Proxy.running(server.port) as proxy, listener(app_to(proxy.port)) as ear:
        eventually(lambda: listening_at(server) == 1)
        proxy.cut()
        eventually(lambda: listening_at(server) == 0)
        proxy.heal()
        eventually(lambda: listening_at(server) == 1)
        assert Publisher(app_to(server.port))()
        eventually(lambda: ear.woken == 1)


def test_an_engine_that_has_stopped_takes_no_hint_from_others(server: RedisServer) -> None:
    app = app_to(server.port)
    with listener(app):
        eventually(lambda: listening_at(server) == 1)
    assert Publisher(app)()
    assert waiting(server) == [TASK]


def test_a_hint_that_an_engine_hears_while_it_stops_is_passed_on(server: RedisServer) -> None:
    app, ear = app_to(server.port), Ear()
    made = Listener(app, ear)
    eventually(lambda: listening_at(server) == 1)
    made.stop()
    assert Publisher(app)()
    eventually(lambda: waiting(server) == [TASK])
    assert ear.woken == 0
    eventually(lambda: listening_at(server) == 0)


def test_who_may_not_call_asks_once_and_gives_tasks(tmp_path: Path) -> None:
    rights = ["on", "nopass", "resetkeys", f"~{QUEUE}", f"~{QUEUE}[^.]*", "~_kombu*", "+@all"]
    with RedisServer(tmp_path, "--user", "shop", *rights) as server:
        publish = Publisher(app_to(server.port, "shop:any@"))
        assert [publish() for _ in range(5)] == [True] * 5
        assert waiting(server) == [TASK] * 5
        (refused,) = redis.Redis(port=server.port, decode_responses=True).acl_log()
        assert (refused["object"], refused["count"]) == (CALLS, 1)


def test_who_may_call_but_not_take_back_leaves_nothing_on_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "IDLE_SECONDS", 0)
    with RedisServer(tmp_path, "--user", "shop", "on", "nopass", "~*", "+@all", "-rpop") as server:
        publish = Publisher(app_to(server.port, "shop:any@"))
        assert [publish() for _ in range(5)] == [True] * 5
        assert redis.Redis(port=server.port).llen(CALLS) == 0
        assert waiting(server) == [TASK] * 5


def test_the_engines_of_a_worker_listen(place: Place) -> None:
    with (
        RedisServer(place.folder) as server,
        rig(place, broker_url=f"redis://127.0.0.1:{server.port}/0") as made,
    ):
        with made.worker(children=2), app_to(server.port).connection_for_write() as connection:
            eventually(lambda: call(connection))
        with app_to(server.port).connection_for_write() as connection:
            eventually(lambda: not call(connection))


@on_sqlite
def test_a_worker_that_stops_takes_no_hint_from_others_while_it_drains(place: Place) -> None:
    with (
        RedisServer(place.folder) as server,
        rig(place, broker_url=f"redis://127.0.0.1:{server.port}/0") as made,
        made.worker() as worker,
        app_to(server.port).connection_for_write() as connection,
    ):
        made.simulator.set_faults(["slow:1.0:delay=20"])
        made.order("SO-1")
        eventually(lambda: made.states() == {"sending"})
        eventually(lambda: call(connection))
        worker.process.send_signal(signal.SIGTERM)
        eventually(lambda: not hears_again(connection))
        assert len(worker.children()) == 1, "it drains still"


@on_sqlite
def test_an_engine_that_hears_a_hint_looks_at_once(place: Place) -> None:
    with (
        RedisServer(place.folder) as server,
        rig(place, broker_url=f"redis://127.0.0.1:{server.port}/0") as made,
        made.worker(),
        app_to(server.port).connection_for_write() as connection,
    ):
        eventually(lambda: call(connection))
        # Ten looks of an engine that is idle, one a second, take ten.
        assert deliver_by_hints(made, app_to(server.port)) < 4
