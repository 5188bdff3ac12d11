"""Many workers on one database: each message sent once, the work shared, nobody in another's way."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections import Counter
from contextlib import ExitStack

import pytest
from sqlalchemy import text

from orderflow_outbox import NewMessage, enqueue_many
from tests.databases import on_postgresql
from tests.documents import order
from tests.rig import Place, Rig, WorkerProcess, engine_of, eventually, rig
from worker.broker import EmbeddedBroker

TROUBLE = ("deadlock", "serializ", "one by one", "does not answer", "cannot be written", "late result")
STARTED = "the engine looks for messages"
WORKERS = 4
UNHURRIED = 20
"""Seconds of a lease that no busy machine outlasts: then every repeat is a fault of ours."""
BOUND_SECONDS = 12
SLOW = "slow:1.0:delay=0.1"
"""Slow enough that the slots are shared before the first to wake up is done with everything."""


def enqueue_orders(made: Rig, count: int) -> None:
    new = [
        NewMessage(
            "order-import", order(f"SO-{n}"), channel="web", key=f"order:SO-{n}", idempotency_key=f"key-{n}"
        )
        for n in range(count)
    ]
    with made.engine.begin() as connection:
        enqueue_many(connection, new)


def unfinished(made: Rig) -> int:
    with made.engine.connect() as connection:
        statement = "SELECT count(*) FROM outbox_message WHERE state IN ('pending', 'sending')"
        return int(connection.execute(text(statement)).scalar_one())


def recorded_by(worker: WorkerProcess) -> int:
    said = worker.log.read_text(errors="replace")
    return sum(int(count) for count in re.findall(r"it recorded (\d+) results", said))


def assert_sent_once(made: Rig, orders: int) -> None:
    """Every order was sent once and taken in once, by the receiver's own books."""
    ledger = made.simulator.ledger
    assert len(ledger.requests) == orders
    assert Counter(each.reference for each in ledger.accepted) == Counter(f"SO-{n}" for n in range(orders))
    assert made.states() == {"delivered"}


@pytest.mark.parametrize(
    "messages", [320, pytest.param(20_000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
@on_postgresql
def test_four_workers_send_each_message_once_and_share_the_work(place: Place, messages: int) -> None:
    with (
        rig(place, window=8, lease=UNHURRIED, attempt_deadline="6s") as made,
        EmbeddedBroker(place.folder / "state"),
        ExitStack() as stack,
    ):
        made.simulator.set_faults([SLOW])
        workers = [stack.enter_context(made.worker()) for _ in range(WORKERS)]
        for each in workers:
            eventually(lambda each=each: each.said(STARTED))
        enqueue_orders(made, messages)
        eventually(lambda: not unfinished(made), 480)
        for each in workers:
            each.process.terminate()
        assert [each.process.wait(20) for each in workers] == [0] * WORKERS
        assert_sent_once(made, messages)
        shares = [recorded_by(each) for each in workers]
        assert sum(shares) == messages
        assert all(abs(share - messages / WORKERS) <= messages / WORKERS / 4 for share in shares), shares
        for each in workers:
            assert not [word for word in TROUBLE if each.said(word)]
        with made.engine.connect() as connection:
            statement = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            assert connection.execute(text(statement)).scalar_one() == 0


@pytest.mark.parametrize("restarts", [2, pytest.param(6, marks=pytest.mark.soak)])
@on_postgresql
def test_a_rolling_restart_under_load_loses_nothing_and_sends_nothing_twice(
    place: Place, restarts: int
) -> None:
    with (
        rig(place, window=8, lease=UNHURRIED, attempt_deadline="6s") as made,
        EmbeddedBroker(place.folder / "state"),
        ExitStack() as stack,
    ):
        made.simulator.set_faults([SLOW])
        orders = itertools.count()
        stop = threading.Event()

        def shop() -> None:
            while not stop.wait(0.02):
                made.order(f"SO-{next(orders)}")

        shopping = threading.Thread(target=shop)
        shopping.start()
        try:
            workers = [stack.enter_context(made.worker(children=2)) for _ in range(2)]
            for restart in range(restarts):
                seen = len(made.simulator.ledger.requests)
                eventually(lambda seen=seen: len(made.simulator.ledger.requests) > seen + 20)
                assert workers[restart % 2].terminate() == 0
                workers[restart % 2] = stack.enter_context(made.worker(children=2))
        finally:
            stop.set()
            shopping.join()
        eventually(lambda: not unfinished(made))
        assert_sent_once(made, next(orders))
        assert {row.rescues for row in made.rows()} == {0}, "no lease was left to run out"


@on_postgresql
def test_a_second_term_loses_nothing(place: Place) -> None:
    with rig(place, attempt_deadline="1s", lease=3) as made:
        made.simulator.set_faults(["slow:1.0:delay=0.3"])
        made.orders(16)
        with made.worker(children=2) as hurried:
            eventually(lambda: len(made.simulator.ledger.requests) >= 8)
            hurried.process.terminate()
            hurried.process.terminate()
            assert hurried.process.wait(20) is not None
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        taken_in = Counter(each.reference for each in made.simulator.ledger.accepted)
        assert taken_in == Counter(f"SO-{n}" for n in range(16))


@on_postgresql
def test_what_outlasts_the_bound_of_a_stop_is_given_back_in_doubt(place: Place) -> None:
    with rig(place, attempt_deadline="1s", lease=UNHURRIED, drain="200ms") as made:
        made.simulator.set_faults(["slow:1.0:delay=0.8"])
        made.orders(8)
        with made.worker() as stopped:
            eventually(lambda: len(made.simulator.ledger.requests) >= 4)
            begun = time.monotonic()
            assert stopped.terminate() == 0
            assert time.monotonic() - begun < BOUND_SECONDS
        cut = [row for row in made.rows() if row.in_doubt]
        assert cut
        assert {(row.state, row.lease_until, row.rescues) for row in cut} == {("pending", None, 0)}
        made.simulator.set_faults([])
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        taken_in = Counter(each.reference for each in made.simulator.ledger.accepted)
        assert taken_in == Counter(f"SO-{n}" for n in range(8))
