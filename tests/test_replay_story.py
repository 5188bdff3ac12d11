"""A night with sixty dead orders: a canary that fails, a mended receiver, and an engine killed on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta

from sqlalchemy import select

from config import Rate, load
from orderflow_outbox import enqueue
from orderflow_outbox.tables import message
from simulator import Options
from tests.databases import on_sqlite_first
from tests.rig import PROJECT, Place, Rig, engine_of, eventually, rig
from worker.failpoints import VARIABLE, Failpoint
from worker.replays import runs
from worker.replays.run import Care, RunState
from worker.store.finding import Filter
from worker.store.transactions import Store

ORDERS, CANARY, RATE = 60, 6, 40
PRODUCT = (
    '<imports><import type="product" operation="insert" externalReference="SKU-1">name=A</import></imports>'
)


def orders_received(made: Rig) -> Counter[str]:
    """Return how often the receiver was sent each order."""
    return Counter(
        reference
        for request in made.simulator.ledger.requests
        if request.operation == "order-import"
        for reference in request.references
    )


def orders_taken(made: Rig) -> Counter[str]:
    """Return how often the receiver has carried out each order."""
    return Counter(each.reference for each in made.simulator.ledger.accepted if each.type == "order")


def engine_that_dies(made: Rig, where: str) -> int:
    """Run an engine in a process of its own until it is killed; return how it ended."""
    return subprocess.run(
        [sys.executable, "-m", "tests.proof.engine"],
        cwd=PROJECT,
        env={**made.environment, VARIABLE: where},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    ).returncode


@on_sqlite_first
def test_a_canary_that_fails_saves_the_rest_which_follow_once_mended_though_their_engine_is_killed(
    place: Place,
) -> None:
    with rig(place, Options(missing_products=["SKU-1"]), lease=3, attempt_deadline="1s") as made:
        store, configuration = Store(made.engine), load(made.file, need_secrets=False)
        made.orders(ORDERS)
        with engine_of(made):
            eventually(lambda: made.states() == {"dead"})
            care = Care(CANARY, rate=Rate(requests=RATE, per=timedelta(seconds=1)), stop_share=0.2)
            run = runs.begin(store, Filter(), care, "ann", "do they pass now?", configuration)
            eventually(lambda: runs.find(store, run.id).state is RunState.STOPPED)
            eventually(lambda: made.states() == {"dead"})
        assert sum(orders_received(made).values()) == ORDERS + CANARY
        with made.engine.begin() as connection:
            enqueue(connection, "product-import", PRODUCT, organisation="acme")
        with engine_of(made):
            eventually(lambda: "delivered" in made.states())
        runs.go_on(store, run.id, "ann", "the product is there")
        assert engine_that_dies(made, f"{Failpoint.IN_REPLAY}:30") == -signal.SIGKILL
        sent = runs.find(store, run.id).sent
        assert CANARY < sent < ORDERS, "killed in the middle"
        with engine_of(made):
            eventually(lambda: runs.find(store, run.id).state is RunState.FINISHED)
        over = runs.find(store, run.id)
        assert (over.sent, over.delivered, over.failed) == (ORDERS, ORDERS - CANARY, CANARY)
        with made.engine.connect() as connection:
            replays = select(message.c.replay_of).where(message.c.replay_of.is_not(None))
            origins = list(connection.scalars(replays))
        assert len(set(origins)) == len(origins) == ORDERS
        taken = orders_taken(made)
        assert (len(taken), set(taken.values())) == (ORDERS - CANARY, {1})
