"""A shop in a process of its own, to its end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from worker.processes import kill_group, start_process

from .contestant import Contestant
from .stage import BenchFailed

LOOK_SECONDS = 0.1
MARGIN_SECONDS = 30.0


def told_by_shop(
    contestant: Contestant, module: str, words: Sequence[str], seconds: float, look: Callable[[], None]
) -> Any:
    """Run `python -m MODULE WORDS… FILE`; return what it writes into the file, as JSON.

    Args:
        seconds: what it is meant to take.
        look: called again and again meanwhile.

    Raises:
        BenchFailed: it failed or took too long, or a part stopped meanwhile.
    """
    folder = contestant.place.folder
    told, log = folder / "shop.json", folder / "shop.log"
    deadline = time.monotonic() + seconds + MARGIN_SECONDS
    with log.open("wb") as output:
        process = start_process([sys.executable, "-m", module, *words, str(told)], output, contestant.shop())
        try:
            while process.poll() is None and time.monotonic() < deadline:
                contestant.place.stage.check_parts()
                look()
                time.sleep(LOOK_SECONDS)
        finally:
            kill_group(process)
    if process.returncode:
        raise BenchFailed(f"the shop failed: {' '.join(log.read_text().split())[-500:] or 'too slow'}")
    return json.loads(told.read_text())
