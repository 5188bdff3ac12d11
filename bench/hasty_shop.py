"""A web shop in a process of its own that commits one message after another, with hints and without in turn.

`python -m bench.hasty_shop ROUNDS SECONDS FILE` writes, as JSON, how many it committed of each kind in
each round, and how many hints it sent.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from celery import Celery
from sqlalchemy import Engine, create_engine

from orderflow_outbox import hint_after_commit

from .shop import enqueue_order

WARM_UP_SECONDS = 0.5


def trade(rounds: int, seconds: float) -> dict[str, Any]:
    """Commit for so many seconds with hints, then without, and so on; return what was committed."""
    hinting, silent = (create_engine(os.environ["SHOP_DATABASE_URL"]) for _ in range(2))
    hints = hint_after_commit(hinting, Celery(broker=os.environ["SHOP_BROKER_URL"], set_as_current=False))
    names = (f"hasty-{n:06d}" for n in itertools.count())
    committed: dict[str, list[int]] = {"with_hints": [], "without": []}
    before = sum(_commit(engine, names, WARM_UP_SECONDS) for engine in (hinting, silent))
    for _ in range(rounds):
        committed["with_hints"].append(_commit(hinting, names, seconds))
        committed["without"].append(_commit(silent, names, seconds))
    return {**committed, "warm_up": before, "sent": hints.sent, "failed": hints.failed}


def _commit(engine: Engine, names: Iterator[str], seconds: float) -> int:
    """Commit one message in each transaction until so many seconds have passed; return how many."""
    ends = time.monotonic() + seconds
    for count in itertools.count(1):
        identity = next(names)
        with engine.begin() as connection:
            enqueue_order(connection, identity)
        if time.monotonic() >= ends:
            return count
    raise AssertionError("itertools.count has an end")


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(json.dumps(trade(int(sys.argv[1]), float(sys.argv[2]))))
