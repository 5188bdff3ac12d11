"""The figure `hints`: what hints take from a shop that commits messages as fast as it can.

The shop is a process of its own, the broker the service's; no worker runs. What takes hints on, as the
worker would, is this process.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from typing import Any

from celery import Celery

from orderflow_outbox.publishing import QUEUE
from worker.broker import remove_socket, wait_ready
from worker.processes import kill_group, start_process
from worker.supervisor import Part

from .comparing import Comparison
from .contestant import Place
from .stage import READY_SECONDS, BenchFailed, Stage
from .watching import Watch
from .with_outbox import DEFAULT_WINDOW, Outbox

ROUNDS = 5
SECONDS = 3.0
TARGET = 0.85
LOOK_SECONDS = 0.1
"""So often hints are taken on: fewer wait than would keep the shop from sending another."""


def take(stage: Stage, watch: Watch, rounds: int = ROUNDS, seconds: float = SECONDS) -> Comparison:
    """Take the figure.

    Args:
        seconds: of each kind in each round.

    Raises:
        BenchFailed: a process ended, or the database does not hold what was committed.
    """
    watch.round("hints")
    folder, database = stage.new_round()
    with stage.receiving(folder) as receiver:
        place = Place(stage, folder, database, receiver)
        with closing(Outbox(place, DEFAULT_WINDOW)) as outbox:
            broker = next(part for part in outbox.parts() if part.name == "broker")
            told = _trade(outbox, broker, rounds, seconds, watch)
    with_hints, without = told["with_hints"], told["without"]
    _check(place, sum(with_hints) + sum(without) + told["warm_up"])
    if told["failed"] or not told["sent"]:
        raise BenchFailed(f"hints: {told['sent']} sent, {told['failed']} failed")
    return Comparison(
        figure="hints",
        unit="messages/s",
        against="no hints",
        ours=tuple(count / seconds for count in with_hints),
        baseline=tuple(count / seconds for count in without),
        better="higher",
        target=TARGET,
        notes={"hints_sent": told["sent"]},
    )


def _trade(outbox: Outbox, broker: Part, rounds: int, seconds: float, watch: Watch) -> dict[str, Any]:
    """Run the broker, and the shop to its end; return what that told."""
    place = outbox.place
    told, log = place.folder / "shop.json", place.folder / "shop.log"
    words = [sys.executable, "-m", "bench.hasty_shop", str(rounds), str(seconds), str(told)]
    try:
        with place.stage.running([broker], place.folder), log.open("wb") as output:
            wait_ready(place.state_dir, READY_SECONDS)
            process = start_process(words, output, outbox.shop())
            watch.begin("committing with hints and without", round(2 * rounds * seconds))
            begun = time.monotonic()
            try:
                with Celery(broker=place.broker, set_as_current=False).connection_for_read() as connection:
                    while process.poll() is None:
                        place.stage.check_parts()
                        _take_hints(connection)
                        watch.at(round(time.monotonic() - begun))
                        time.sleep(LOOK_SECONDS)
            finally:
                kill_group(process)
    finally:
        remove_socket(place.state_dir)
    if process.returncode:
        raise BenchFailed(f"the shop failed: {' '.join(log.read_text().split())[-500:]}")
    result: dict[str, Any] = json.loads(told.read_text())
    return result


def _take_hints(connection: Any) -> None:
    connection.default_channel.queue_purge(QUEUE)


def _check(place: Place, expected: int) -> None:
    ((found,),) = place.stage.server.execute("SELECT count(*) FROM outbox_message", place.database)
    if found != expected:
        raise BenchFailed(f"hints: the database holds {found} messages of {expected}")
