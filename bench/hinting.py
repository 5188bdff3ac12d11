"""The figure `hints`: what hints take from a shop that commits messages as fast as it can.

The shop is a process of its own, the broker the service's; no worker runs. What takes hints on, as the
worker would, is this process.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

from celery import Celery

from orderflow_outbox.publishing import QUEUE
from worker.broker import remove_socket, wait_ready

from .comparing import Comparison
from .contestant import Contestant, new_place
from .plan import Plan
from .shopping import told_by_shop
from .stage import READY_SECONDS, BenchFailed, Stage
from .watching import Watch

ROUNDS = 5
SECONDS = 2.0
"""The most that each kind takes in each round."""
TARGET = 0.85
BROKER = "broker"


def take(stage: Stage, plan: Plan, watch: Watch) -> list[Comparison]:
    """Take the figure.

    Raises:
        BenchFailed: a process ended, or the database does not hold what was committed.
    """
    seconds = min(SECONDS, plan.seconds)
    watch.round("hints")
    with new_place(stage) as place, closing(plan.outbox(place)) as outbox:
        told = _trade(outbox, seconds, watch)
        found = outbox.count("SELECT count(*) FROM outbox_message")
    with_hints, without = told["with_hints"], told["without"]
    expected = sum(with_hints) + sum(without) + told["warm_up"]
    if found != expected:
        raise BenchFailed(f"hints: the database holds {found} messages of {expected}")
    if told["failed"] or not told["sent"]:
        raise BenchFailed(f"hints: {told['sent']} sent, {told['failed']} failed")
    return [
        Comparison(
            figure="hints",
            unit="messages/s",
            against="no hints",
            ours=tuple(count / seconds for count in with_hints),
            baseline=tuple(count / seconds for count in without),
            better="higher",
            target=TARGET,
            notes={"hints sent": told["sent"]},
        )
    ]


def _trade(outbox: Contestant, seconds: float, watch: Watch) -> Any:
    """Run the broker, and the shop to its end; return what that told."""
    place = outbox.place
    broker = next(part for part in outbox.parts() if part.name == BROKER)
    longest = 2 * ROUNDS * seconds
    try:
        with place.stage.running([broker], place.folder):
            wait_ready(place.state_dir, READY_SECONDS)
            watch.begin("committing with hints and without", round(longest))
            begun = time.monotonic()
            with Celery(broker=place.broker, set_as_current=False).connection_for_read() as connection:

                def look() -> None:
                    # So often that fewer wait than would keep the shop from sending another.
                    connection.default_channel.queue_purge(QUEUE)
                    watch.at(round(time.monotonic() - begun))

                words = [str(ROUNDS), str(seconds)]
                return told_by_shop(outbox, "bench.hasty_shop", words, longest, look)
    finally:
        remove_socket(place.state_dir)
