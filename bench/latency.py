"""The figure `latency`: from a shop's commit to the receiver, at a pace that leaves time to rest."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.processes import kill_group, start_process

from .contestant import WARM_UP, Contestant, Place
from .shop import WARM_UP as SHOP_WARM_UP
from .stage import BenchFailed, Stage
from .tally import Tally, tally_of, wait_until_finished
from .watching import Watch

MESSAGES_A_SECOND = 20
LOOK_SECONDS = 0.1
SHOP_MARGIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class LatencyRound:
    """One contestant's latencies in ms, the shortest first; one for each message that arrived."""

    tally: Tally
    milliseconds: tuple[float, ...]


def take(stage: Stage, make: Callable[[Place], Contestant], seconds: float, watch: Watch) -> LatencyRound:
    """Take the figure once for one contestant.

    Args:
        make: makes the contestant at its place.
        seconds: how long the shop takes orders.

    Raises:
        BenchFailed: a process ended, or was not ready in time.
    """
    orders = max(1, round(seconds * MESSAGES_A_SECOND))
    folder, database = stage.new_round()
    with stage.receiving(folder) as receiver:
        contestant = make(Place(stage, folder, database, receiver))
        watch.begin("getting ready", orders)
        with contestant.running():
            committed = _trade(contestant, orders, folder, watch)
            earlier = WARM_UP + SHOP_WARM_UP
            wait_until_finished(contestant, earlier + orders, watch)
            books = receiver.books()
            tally = tally_of(list(committed), books, contestant.finished() - earlier)
    return LatencyRound(tally, _latencies(committed, books))


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value that `share` of the `ordered` values do not exceed; 0 when there are none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def _trade(contestant: Contestant, orders: int, folder: Path, watch: Watch) -> dict[str, float]:
    """Run the shop to its end; return each order's identity and the moment after its commit."""
    watch.begin(f"{MESSAGES_A_SECOND} orders a second", orders)
    told, log = folder / "shop.json", folder / "shop.log"
    words = [contestant.name, str(orders), str(1 / MESSAGES_A_SECOND), str(told)]
    with log.open("wb") as output:
        process = start_process([sys.executable, "-m", "bench.shop", *words], output, contestant.shop())
        try:
            _wait_for(process, contestant, orders, watch)
        finally:
            kill_group(process)
    if process.returncode:
        raise BenchFailed(f"the shop failed: {' '.join(log.read_text().split())[-500:] or 'too slow'}")
    moments: dict[str, float] = json.loads(told.read_text())
    return moments


def _wait_for(process: subprocess.Popen[bytes], contestant: Contestant, orders: int, watch: Watch) -> None:
    receiver, stage = contestant.place.receiver, contestant.place.stage
    before = receiver.count()
    deadline = time.monotonic() + orders / MESSAGES_A_SECOND + SHOP_MARGIN_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        stage.check_parts()
        watch.at(receiver.count() - before)
        time.sleep(LOOK_SECONDS)


def _latencies(committed: Mapping[str, float], books: Sequence[tuple[str, float]]) -> tuple[float, ...]:
    first: dict[str, float] = {}
    for identity, moment in books:
        first.setdefault(identity, moment)
    arrived = (name for name in committed if name in first)
    return tuple(sorted(1000 * (first[name] - committed[name]) for name in arrived))
