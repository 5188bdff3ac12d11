"""Hints that are called out: heard at once by one engine that listens, else given as a task."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from celery import Celery

from orderflow_outbox.calling import CALLS, call
from orderflow_outbox.publishing import MAX_WAITING, QUEUE, TASK, Publisher
from tasks import listening
from tasks.listening import Listener
from tests.brokers import Proxy, RedisServer, waiting
from tests.databases import on_sqlite
from tests.rig import Place, eventually, rig

LISTENING = "outbox-listener"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


def app_to(port: int, user: str = "") -> Celery:
    return Celery(broker=f"redis://{user}127.0.0.1:{port}/0", set_as_current=False)


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


def test_who_may_not_call_asks_once_and_gives_tasks(tmp_path: Path) -> None:
    rights = ["on", "nopass", "resetkeys", f"~{QUEUE}", f"~{QUEUE}[^.]*", "~_kombu*", "+@all"]
    with RedisServer(tmp_path, "--user", "shop", *rights) as server:
        publish = Publisher(app_to(server.port, "shop:any@"))
        assert [publish() for _ in range(5)] == [True] * 5
        assert waiting(server) == [TASK] * 5
        (refused,) = redis.Redis(port=server.port, decode_responses=True).acl_log()
        assert (refused["object"], refused["count"]) == (CALLS, 2), "a call is of two commands"


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
        eventually(lambda: not call(connection))
        assert len(worker.children()) == 1, "it drains still"
