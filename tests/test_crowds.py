"""Eight processes on one SQLite file at once: nothing is lost, and nobody is locked out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

import config
from tests.databases import on_sqlite
from tests.proof.checker import violations
from tests.proof.producer import produce
from tests.proof.stage import REPLAY_ALL, UNHURRIED, Stage, stage
from tests.rig import Place, eventually
from worker.engine_thread import EngineThread
from worker.ports import announce_nothing, wake_nobody
from worker.service import build_engine

ENGINES, SHOPS = 4, 3


def deliver(file: Path, log: Path) -> None:
    """Run an engine, as a child of the worker does, until it is killed."""
    logging.basicConfig(filename=log, force=True)
    configuration = config.load(file)
    EngineThread(lambda: build_engine(configuration, wake_nobody, announce_nothing)).start()
    threading.Event().wait()


def replay_while_they_sell(made: Stage, shops: Sequence[BaseProcess]) -> None:
    """Replay all dead letters again and again, the last time when all that was sold has had its turn."""
    is_last = False
    while not is_last:
        is_last = not any(shop.is_alive() for shop in shops)
        if is_last:
            eventually(made.is_quiet, 120)
        assert made.start("worker", *REPLAY_ALL).wait(60) == 0


@pytest.mark.parametrize(
    "orders", [24, pytest.param(1_000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
@on_sqlite
def test_eight_processes_on_one_file_lose_nothing_and_lock_nobody_out(place: Place, orders: int) -> None:
    with stage(place, **UNHURRIED) as made:
        log = place.folder / "processes.log"
        engines = [made.fork(deliver, made.rig.file, log) for _ in range(ENGINES)]
        made.shop_books += [place.folder / f"shop-{shop}.jsonl" for shop in range(SHOPS)]
        shops = [
            made.fork(produce, made.rig.database_url, book, shop * orders, orders, orders)
            for shop, book in enumerate(made.shop_books)
        ]
        try:
            replay_while_they_sell(made, shops)
            eventually(made.is_quiet, 120)
        finally:
            for each in (*engines, *shops):
                each.kill()
                each.join()
        seen = made.seen()
    assert [shop.exitcode for shop in shops] == [0] * SHOPS
    assert len(seen.committed) == SHOPS * orders
    assert violations(seen, at_rest=True) == []
    assert {row.attempts for row in seen.messages} <= {0, 1}, "nothing is repeated"
    assert len(seen.requests) == sum(row.attempts for row in seen.messages)
    assert any(row.replay_of for row in seen.messages)
    assert "locked" not in log.read_text()
