"""Hints by a shop's Celery application or a broker's address: on the queue, bounded, in nobody's way."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from celery import Celery
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from orderflow_outbox import Hints, InvalidBroker, enqueue, hint_after_commit
from orderflow_outbox.publishing import MAX_WAITING, TASK, Publisher
from tests.brokers import Proxy, RedisServer, waiting
from tests.databases import on_sqlite
from tests.documents import order
from tests.rig import eventually, free_port

A_COMMIT_AT_MOST = 1.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


def url_of(server: RedisServer) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


def shops_app(server: RedisServer, **options: object) -> Celery:
    app = Celery(broker=url_of(server), set_as_current=False)
    app.conf.update(options)
    return app


def commit_an_order(engine: Engine, number: int) -> float:
    """Take an order; return how long that took."""
    begun = time.monotonic()
    with Session(engine) as session, session.begin():
        enqueue(session, "order-import", order(f"SO-{number}"), channel="web")
    return time.monotonic() - begun


def lost(*_: object, **__: object) -> None:
    """A route of a shop's that fails."""
    raise LookupError("no way")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"task_routes": {"*": {"queue": "shop", "exchange": "shop", "routing_key": "shop"}}},
        {"task_create_missing_queues": False},
        {"broker_transport_options": {"global_keyprefix": "shop-"}},
        {"task_serializer": "pickle", "task_default_queue": "shop"},
        {
            "task_routes": {"*": {"priority": 5}},
            "broker_transport_options": {"priority_steps": list(range(10))},
        },
        {"task_routes": [lost]},
    ],
    ids=lambda options: next(iter(options), "as it comes"),
)
def test_a_hint_reaches_the_workers_queue_whatever_the_shops_application_is_set_to(
    server: RedisServer, options: dict[str, object]
) -> None:
    app = shops_app(server, **options)
    hints = Hints(app)
    hints.hint()
    eventually(lambda: (hints.sent, hints.suppressed, hints.failed) == (1, 0, 0), 5)
    assert waiting(server) == [TASK]
    assert app.amqp._producer_pool is None, "the shop's own connections are left alone"


@on_sqlite
def test_an_address_is_enough(server: RedisServer, engine: Engine) -> None:
    hints = hint_after_commit(engine, url_of(server))
    commit_an_order(engine, 1)
    eventually(lambda: hints.sent == 1, 5)
    assert waiting(server) == [TASK]


@on_sqlite
def test_no_commit_waits_a_second_for_a_frozen_broker(server: RedisServer, engine: Engine) -> None:
    hints = hint_after_commit(engine, shops_app(server))
    commit_an_order(engine, 0)
    server.freeze()
    try:
        # The first ones may come within 20 ms of the hint before, and give none.
        took = [commit_an_order(engine, 1)]
        while not hints.failed and sum(took) < 5:
            took.append(commit_an_order(engine, 1 + len(took)))
        assert hints.failed
    finally:
        server.thaw()
    assert max(took) < A_COMMIT_AT_MOST
    eventually(lambda: hints.sent + hints.suppressed + hints.failed == 1 + len(took), 5)


@on_sqlite
def test_no_commit_waits_a_second_for_a_broker_that_is_gone(server: RedisServer, engine: Engine) -> None:
    hints = hint_after_commit(engine, url_of(server))
    server.kill()
    assert max(commit_an_order(engine, number) for number in range(5)) < A_COMMIT_AT_MOST
    assert hints.sent == 0
    assert hints.failed + hints.suppressed == 5


def test_each_of_several_addresses_is_tried(server: RedisServer) -> None:
    dead = f"redis://127.0.0.1:{free_port()}/0"
    app = Celery(broker=f"{dead};{url_of(server)}", set_as_current=False)
    assert Publisher(app)()
    assert waiting(server) == [TASK]


def test_an_address_of_tls_is_verified_by_whom_it_names_and_by_nobody_else(
    server: RedisServer, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with Proxy.running(server.port, tls=context) as proxy:
        address = f"rediss://localhost:{proxy.port}/0"
        trusting, trusting_nobody = Hints(f"{address}?ssl_ca_certs={tmp_path}/ca.pem"), Hints(address)
        trusting_nobody.hint()
        trusting.hint()
        eventually(lambda: trusting.sent + trusting.failed == trusting_nobody.failed == 1, 5)
    assert (trusting.sent, trusting_nobody.sent) == (1, 0)
    assert waiting(server) == [TASK]


def test_a_connection_that_died_with_the_broker_costs_no_hint(server: RedisServer) -> None:
    publish = Publisher(shops_app(server))
    assert publish()
    server.kill()
    server.start()
    assert publish()
    assert waiting(server) == [TASK]


def test_hints_do_not_pile_up_while_no_worker_runs(server: RedisServer) -> None:
    publish = Publisher(shops_app(server))
    sent = sum(publish() for _ in range(MAX_WAITING + 50))
    assert sent == len(waiting(server)) == MAX_WAITING
    another = Hints(shops_app(server))
    another.hint()
    assert (another.sent, another.suppressed) == (0, 1)


def test_an_event_loop_never_waits_for_a_hint() -> None:
    go, called = threading.Event(), threading.Event()

    def slow() -> None:
        called.set()
        go.wait(10)

    async def shop() -> float:
        begun = time.monotonic()
        hints.hint()
        return time.monotonic() - begun

    hints = Hints(slow)
    assert asyncio.run(shop()) < 0.25
    assert called.wait(5)
    go.set()
    eventually(lambda: hints.sent == 1, 5)


def test_a_child_gives_hints_although_one_was_under_way_when_it_was_forked() -> None:
    go = threading.Event()
    hints = Hints(lambda: go.wait(10))
    hints.hint()
    child = os.fork()
    if child == 0:
        go.set()
        hints.hint()
        os._exit(0 if hints.sent == 1 else 1)
    go.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("nowhere", [None, 5, b"redis://"])
def test_what_leads_to_no_broker_is_refused(engine: Engine, nowhere: object) -> None:
    with pytest.raises(InvalidBroker, match="Celery application, a broker's address as text, or a function"):
        hint_after_commit(engine, nowhere)  # type: ignore[arg-type]


def test_an_address_without_celery_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "celery", None)
    with pytest.raises(InvalidBroker, match=r"install celery\[redis\]") as refused:
        Hints("redis://:secret@broker/0")
    assert "secret" not in str(refused.value)
