"""Whatever befalls the broker: each message is delivered, once and in order, and no shop waits for it.

One worker lives through all of it, one after the other; two books and a checker tell what came of it.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import pytest
import redis
from celery import Celery

import config
from orderflow_outbox import Hints, enqueue, hint_after_commit
from orderflow_outbox.hints import MAX_WAIT_SECONDS
from tasks.app import make_app
from tests.brokers import LOCALHOST, RedisServer
from tests.databases import Databases
from tests.documents import order
from tests.proof.book import Book
from tests.proof.checker import repeats, violations
from tests.proof.producer import COMMITTED, identity_of
from tests.proof.stage import UNHURRIED, Stage, stage
from tests.rig import Place, WorkerProcess, eventually

CHILDREN = 2
BETWEEN_ORDERS_SECONDS = 0.03
ORDERS_OF_A_KEY = 4
BUSY_SECONDS = 0.5
"""What a commit may take beside its hint, on a machine that has much to do."""
WOKEN_SECONDS = 1.0
"""Four orders, one after the other, take longer with engines that look once a second."""
FLUSHES = 12


@dataclass
class Service:
    """A shop, its broker, and a worker that lives through what befalls it."""

    made: Stage
    broker: RedisServer
    worker: WorkerProcess
    app: Celery
    hints: Hints
    book: Book
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def take_order(self) -> float:
        """Take the next order; return how long the shop waited for that."""
        number = next(self.numbers)
        identity, document = identity_of(number), order(f"SO-{number}").encode()
        key, begun = f"order:{number // ORDERS_OF_A_KEY}", time.monotonic()
        with self.made.rig.engine.begin() as connection:
            made = enqueue(
                connection, "order-import", document, channel="web", key=key, idempotency_key=identity
            )
        took = time.monotonic() - begun
        sha256 = hashlib.sha256(document).hexdigest()
        self.book.write(event=COMMITTED, id=made.id, identity=identity, key=key, sha256=sha256)
        return took

    def take_orders(self, seconds: float) -> list[float]:
        """Take orders for some seconds; return how long the shop waited for each."""
        ends, never = time.monotonic() + seconds, threading.Event()
        took = []
        while time.monotonic() < ends:
            took.append(self.take_order())
            never.wait(BETWEEN_ORDERS_SECONDS)
        return took

    def is_woken(self) -> bool:
        """Tell whether orders are delivered sooner than by looking once a second."""
        begun = time.monotonic()
        for _ in range(4):
            self.take_order()
            eventually(self.made.is_quiet)
        return time.monotonic() - begun < WOKEN_SECONDS


@pytest.fixture(scope="module")
def service(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for all that befalls."""
    folder, name = tmp_path_factory.mktemp("service"), databases.take()
    with RedisServer(folder) as broker:
        url = f"redis://{LOCALHOST}:{broker.port}/0"
        place = Place(folder, databases.server.url(name))
        with stage(place, broker_url=url, **UNHURRIED) as made, made.rig.worker(CHILDREN) as worker:
            eventually(lambda: worker.said(" ready."))
            app = make_app(config.load_settings(made.rig.file))
            hints = hint_after_commit(made.rig.engine, app)
            made.shop_books.append(folder / "shop.jsonl")
            yield Service(made, broker, worker, app, hints, Book(made.shop_books[0]))
    databases.give_back(name)


Fault = Callable[[RedisServer, float], AbstractContextManager[None]]


@contextmanager
def killed(broker: RedisServer, _seconds: float) -> Iterator[None]:
    broker.kill()
    try:
        yield
    finally:
        broker.start()


@contextmanager
def frozen(broker: RedisServer, _seconds: float) -> Iterator[None]:
    broker.freeze()
    try:
        yield
    finally:
        broker.thaw()


@contextmanager
def flushed_again_and_again(broker: RedisServer, seconds: float) -> Iterator[None]:
    over = threading.Event()

    def flush() -> None:
        while not over.wait(seconds / FLUSHES):
            client_of(broker).flushall()

    flushing = threading.Thread(target=flush)
    flushing.start()
    try:
        yield
    finally:
        over.set()
        flushing.join()


@contextmanager
def read_only(broker: RedisServer, _seconds: float) -> Iterator[None]:
    """It is the replica of a server that is not there, as when another has been made the first."""
    client_of(broker).replicaof(LOCALHOST, "1")
    try:
        yield
    finally:
        client_of(broker).replicaof("NO", "ONE")


@contextmanager
def out_of_memory(broker: RedisServer, _seconds: float) -> Iterator[None]:
    assert client_of(broker).config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    client_of(broker).config_set("maxmemory", "1")
    try:
        yield
    finally:
        client_of(broker).config_set("maxmemory", "0")


def client_of(broker: RedisServer) -> redis.Redis:
    return redis.Redis(port=broker.port, decode_responses=True)


TAKES_HINTS = [flushed_again_and_again]


@pytest.mark.parametrize(
    "seconds", [1.0, pytest.param(60.0, marks=[pytest.mark.soak, pytest.mark.timeout(300)])]
)
@pytest.mark.parametrize("fault", [killed, frozen, flushed_again_and_again, read_only, out_of_memory])
def test_whatever_befalls_the_broker_each_message_is_delivered_once_and_no_shop_waits(
    service: Service, fault: Fault, seconds: float
) -> None:
    children, failed = service.worker.children(), service.hints.failed
    for _ in range(5):
        service.take_order()  # they are on their way when it begins
    with fault(service.broker, seconds):
        took = service.take_orders(seconds)
        eventually(service.made.is_quiet, what="all is delivered meanwhile")
    assert max(took) < MAX_WAIT_SECONDS + BUSY_SECONDS
    assert (service.hints.failed == failed) == (fault in TAKES_HINTS)
    eventually(service.is_woken, what="a worker that is woken by hints as before")
    assert eventually(lambda: service.app.control.ping(timeout=1, limit=1))
    assert service.worker.children() == children
    assert not service.worker.said("Traceback")
    seen = service.made.seen()
    assert violations(seen, at_rest=True) == []
    assert repeats(seen) == 0
