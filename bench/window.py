"""The figure `window`: how close the window that follows a receiver comes to one chosen by hand.

The receiver is the simulator, which can do so many at once and slows down beyond. Both sides are this service
with two engines; on one the window may be anything up to a large limit, on the other it is what the receiver
can do.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import Engine, func, select

from config import load
from orderflow_outbox import State, enqueue_many
from orderflow_outbox.tables import gate, message
from simulator import Options, Simulator
from worker import schema
from worker.database import connect
from worker.engine_thread import EngineThread
from worker.ports import announce_nothing, wake_nobody
from worker.service import build_engine

from .comparing import Comparison
from .orders import PASSWORD, USER, identities, order
from .plan import Plan
from .stage import BenchFailed, Stage
from .tally import Tally, tally_of
from .turns import in_turn
from .watching import Watch

CAPACITY = 5
WORK_SECONDS = 0.25
LIMIT = 32
ORDERS = 360
ENGINES = 2
PREFIX = "window"
LOOK_SECONDS = 0.1
LONGEST_SECONDS = 300.0
DEADLINE = "2500ms"
"""Ten times what a request takes."""


@dataclass(frozen=True, slots=True)
class WindowRound:
    """One drain.

    Attributes:
        tally: of the orders; the simulator takes none in twice, so that repeated requests are not in it.
        rate: messages per second.
        sizes: the window, ten times a second, once a third was delivered; not empty.
        requests: what the receiver saw.
    """

    tally: Tally
    rate: float
    sizes: list[int]
    requests: int

    @property
    def timed_out(self) -> float:
        """The share of requests that had to be repeated."""
        return 1 - self.tally.messages / self.requests

    @property
    def settled_at(self) -> float:
        """The window it was at half of the time."""
        return statistics.median(self.sizes)


def take(stage: Stage, plan: Plan, watch: Watch) -> list[Comparison]:
    """Take the figure; its database is SQLite, in a folder of its own."""
    del stage
    orders = min(ORDERS, plan.messages)
    follows, chosen = in_turn(
        "window",
        plan.rounds,
        watch,
        {
            "following": partial(delivered, LIMIT, orders, watch),
            "by hand": partial(delivered, CAPACITY, orders, watch),
        },
    )
    return [
        Comparison(
            figure="window",
            unit="messages/s",
            against="a window chosen by hand",
            ours=tuple(each.rate for each in follows),
            baseline=tuple(each.rate for each in chosen),
            better="higher",
            target=0.9,
            tallies=tuple(each.tally for each in (*follows, *chosen)),
            notes={
                "settled at": statistics.median(each.settled_at for each in follows),
                "timed out, share": max(each.timed_out for each in follows),
            },
        )
    ]


def delivered(limit: int, orders: int, watch: Watch) -> WindowRound:
    """Deliver `orders` to a receiver that slows down, with the window limited to `limit`."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outbox-window-")))
        options = Options(work=WORK_SECONDS, capacity=CAPACITY, user=USER, password=PASSWORD)
        simulator = stack.enter_context(Simulator.running(options))
        database = connect(SecretStr(f"sqlite:///{folder}/outbox.db"))
        stack.callback(database.dispose)
        schema.upgrade(database)
        _put(database, orders)
        began = time.monotonic()
        for _ in range(ENGINES):
            stack.enter_context(_engine(_configured(folder, simulator.url, limit)))
        sizes = _watched(database, orders, began, watch)
        rate = orders / (time.monotonic() - began)
        books = [(each.reference, 0.0) for each in simulator.ledger.accepted]
        tally = tally_of(identities(PREFIX, orders), books, _count(database))
        return WindowRound(tally, rate, sizes, len(simulator.ledger.requests))


def _watched(database: Engine, orders: int, began: float, watch: Watch) -> list[int]:
    sizes = []
    done = 0
    watch.begin("delivering", orders)
    while done < orders:
        if time.monotonic() - began > LONGEST_SECONDS:
            raise BenchFailed(f"window: {done} of {orders} delivered within {LONGEST_SECONDS:g} s")
        time.sleep(LOOK_SECONDS)
        done = _count(database)
        with database.connect() as connection:
            size = connection.execute(select(gate.c.window)).scalar_one_or_none()
        watch.at(done)
        if size is not None and done >= orders / 3:
            sizes.append(size)
    return sizes


def _count(database: Engine) -> int:
    """Return how many messages the database calls delivered."""
    with database.connect() as connection:
        found = select(func.count()).where(message.c.state == State.DELIVERED.value)
        return connection.execute(found).scalar_one()


def _put(database: Engine, number: int) -> None:
    with database.begin() as connection:
        enqueue_many(connection, [order(each) for each in identities(PREFIX, number)])


def _configured(folder: Path, url: str, limit: int) -> Path:
    (folder / "password").write_text(PASSWORD)
    (folder / "destinations.toml").write_text(
        f'[destinations.main]\nurl = "{url}"\nprivate_addresses = true\nuser = "{USER}"\nwindow = {limit}\n'
        f"password = {{ file = {json.dumps(str(folder / 'password'))} }}\n"
        f'attempt_deadline = "{DEADLINE}"\n[destinations.main.retry]\nretry_after = ["1s", "1s", "1s"]\n'
    )
    file = folder / "outbox.toml"
    file.write_text(f'database_url = "sqlite:///{folder}/outbox.db"\nstate_dir = "{folder}/state"\n')
    return file


@contextmanager
def _engine(file: Path) -> Iterator[None]:
    configuration = load(file)
    thread = EngineThread(lambda: build_engine(configuration, wake_nobody, announce_nothing))
    thread.start()
    try:
        yield
    finally:
        thread.stop(20)
