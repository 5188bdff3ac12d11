"""The figure `fair`: what a destination's long backlog and slow answers take from another's messages.

One service has two destinations. The slow one answers late and has very many messages due; it is held for
the baseline's rounds, and resumed for the others. What counts is the way of the other one's messages, few and
steady: from a shop's commit to the receiver.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from pydantic import SecretStr

from worker.database import connect
from worker.processes import kill_group, start_process
from worker.replay import hold, resume
from worker.store.transactions import Store
from worker.supervisor import Part

from . import seeding
from .books import tally_with_database
from .comparing import Comparison
from .contestant import Place
from .latency import quantile
from .orders import USER
from .paced_shop import WARM_UP
from .stage import READY_SECONDS, BenchFailed, Receiver, Stage
from .tally import Tally, tally_of
from .watching import Watch
from .with_outbox import BY, DEFAULT_WINDOW, WHY, Outbox

BACKLOG = 100_000
SPARE = 20_000
"""Further messages of the backlog, for those that leave it meanwhile."""
SECONDS = 10.0
ROUNDS = 3
MESSAGES_A_SECOND = 20
ANSWER_SECONDS = 0.2
SLOW_WINDOW = 64
TARGET = 1.5
SLOW = "slow"
SETTLING_SECONDS = 3.0
"""Until the slow destination's window has risen, or what was being sent to it is done."""
SHOP_MARGIN_SECONDS = 30.0


class TwoDestinations(Outbox):
    """The outbox with a second destination.

    Args:
        slow: where that one's requests go.
    """

    def __init__(self, place: Place, slow: Receiver) -> None:
        self._slow = slow
        super().__init__(place, DEFAULT_WINDOW)

    def prepare(self) -> None:
        """Make the tables and the configuration files."""
        super().prepare()
        folder = self.place.folder
        with (folder / "destinations.toml").open("a") as file:
            file.write(
                f'[destinations.{SLOW}]\nurl = "{self._slow.url}"\nuser = "{USER}"\n'
                f"password = {{ file = {json.dumps(str(folder / 'password'))} }}\nwindow = {SLOW_WINDOW}\n"
            )


def take(
    stage: Stage,
    watch: Watch,
    backlog: int = BACKLOG,
    spare: int = SPARE,
    seconds: float = SECONDS,
    rounds: int = ROUNDS,
) -> Comparison:
    """Take the figure.

    Args:
        backlog: messages due to the slow destination at least.
        spare: further ones, for what is sent of them in all rounds.
        seconds: how long each side of each round takes.

    Raises:
        BenchFailed: a process ended, was not ready in time, or the backlog became shorter than it may.
    """
    folder, database = stage.new_round()
    ours: list[list[float]] = []
    baseline: list[list[float]] = []
    tallies: list[Tally] = []
    with stage.receiving(folder) as fast, _receiving_slowly(stage, folder / SLOW) as slow:
        place = Place(stage, folder, database, fast)
        outbox = TwoDestinations(place, slow)
        watch.round("fair")
        watch.begin("filling", backlog + spare)
        with outbox.running(), _gate(place.url) as store:
            hold(store, SLOW, BY, WHY)
            seeding.seed_pending(place.url, SLOW, backlog + spare, SLOW, with_terms=False)
            outbox.settle()
            for n in range(rounds):
                for side, with_backlog in ((baseline, False), (ours, True)):
                    watch.round(f"fair, round {n + 1} of {rounds}")
                    (resume if with_backlog else hold)(store, SLOW, BY, WHY)
                    time.sleep(SETTLING_SECONDS)
                    latencies, tally = _trade(outbox, f"fair-{len(tallies)}", seconds, watch)
                    side.append(latencies)
                    tallies.append(tally)
            hold(store, SLOW, BY, WHY)
            time.sleep(SETTLING_SECONDS)
            sent = slow.count()
            tallies.append(tally_with_database(place, slow.books(), SLOW))
    if not 0 < sent <= spare:
        raise BenchFailed(f"fair: the slow destination got {sent} messages, with {spare} to spare")
    return Comparison(
        figure="fair",
        unit="ms",
        against="the other destination held",
        ours=tuple(quantile(each, 0.99) for each in ours),
        baseline=tuple(quantile(each, 0.99) for each in baseline),
        better="lower",
        target=TARGET,
        tallies=tuple(tallies),
        notes={
            "p50": statistics.median(chain(*ours)),
            "p50_alone": statistics.median(chain(*baseline)),
            "slow_messages": sent,
        },
    )


@contextmanager
def _receiving_slowly(stage: Stage, folder: Path) -> Iterator[Receiver]:
    folder.mkdir()
    part = Part(SLOW, [sys.executable, "-m", "bench.slow_receiver", str(ANSWER_SECONDS)])
    with stage.running([part], folder):
        log = folder / f"{SLOW}.log"
        stage.wait_until(
            lambda: log.exists() and "http" in log.read_text(), READY_SECONDS, "the slow receiver"
        )
        yield Receiver(log.read_text().split()[-1])


@contextmanager
def _gate(url: str) -> Iterator[Store]:
    engine = connect(SecretStr(url))
    try:
        yield Store(engine)
    finally:
        engine.dispose()


def _trade(outbox: TwoDestinations, prefix: str, seconds: float, watch: Watch) -> tuple[list[float], Tally]:
    """Run a shop to its end; return its messages' latencies in ms, the shortest first."""
    place, stage = outbox.place, outbox.place.stage
    messages = max(1, round(seconds * MESSAGES_A_SECOND))
    before = place.receiver.count()
    told, log = place.folder / f"{prefix}.json", place.folder / f"{prefix}.log"
    words = ["bench.paced_shop", prefix, str(messages), str(1 / MESSAGES_A_SECOND), str(told)]
    watch.begin(f"{MESSAGES_A_SECOND} messages a second", messages)
    with log.open("wb") as output:
        process = start_process([sys.executable, "-m", *words], output, outbox.shop())
        try:
            longest = seconds + WARM_UP / MESSAGES_A_SECOND + SHOP_MARGIN_SECONDS
            stage.wait_until(lambda: process.poll() is not None, longest, "the shop is done")
        finally:
            kill_group(process)
    if process.returncode:
        raise BenchFailed(f"the shop failed: {' '.join(log.read_text().split())[-500:]}")
    committed: dict[str, float] = json.loads(told.read_text())
    all_of_it = messages + WARM_UP
    stage.wait_until(lambda: place.receiver.count() >= before + all_of_it, READY_SECONDS, "all are received")
    stage.wait_until(lambda: _delivered(place, prefix) == all_of_it, READY_SECONDS, "all are delivered")
    books = place.receiver.books()[before:]
    tally = tally_of(list(committed), books, _delivered(place, prefix) - WARM_UP)
    arrived = dict(reversed(books))
    latencies = sorted(1000 * (arrived[name] - moment) for name, moment in committed.items())
    return latencies, tally


def _delivered(place: Place, prefix: str) -> int:
    sql = "SELECT count(*) FROM outbox_message WHERE state = 'delivered'"
    ((count,),) = place.stage.server.execute(
        f"{sql} AND destination = 'main' AND idempotency_key LIKE '{prefix}-%'", place.database
    )
    return int(count)
