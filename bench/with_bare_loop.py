"""The contestant `bare`: two processes that only send, over the service's own transport."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from worker.supervisor import Part

from .bare import DONE, READY
from .contestant import CHILDREN, new_place
from .drain import DATABASE, RECEIVER, DrainRound
from .orders import identities
from .processor import used, used_since
from .stage import READY_SECONDS, Stage
from .tally import tally_of
from .watching import Watch

NAME = "bare"
LONGEST_SECONDS = 300.0


def sent(stage: Stage, messages: int, window: int, watch: Watch) -> DrainRound:
    """Take one round.

    Args:
        messages: how many are sent.
        window: the requests in progress at once, of both processes together.

    Raises:
        BenchFailed: a process ended, or took too long.
    """
    share = -(-messages // CHILDREN)
    with new_place(stage) as place:
        parts = [_part(f"{NAME}-{n}", place.receiver.url, share, window // CHILDREN) for n in range(CHILDREN)]
        logs = [place.folder / f"{part.name}.log" for part in parts]
        watch.begin("getting ready", messages)
        with stage.running(parts, place.folder) as processes:
            stage.wait_until(lambda: all(_said(each, READY) for each in logs), READY_SECONDS, "bare: warm")
            watch.begin("sending", messages)
            everyone = {**processes, DATABASE: stage.server_pid, RECEIVER: place.receiver.pid}
            used_before = used(everyone)
            begun = time.monotonic()
            for pid in processes.values():
                os.kill(pid, signal.SIGUSR1)
            stage.wait_until(
                lambda: all(_said(each, DONE) for each in logs), LONGEST_SECONDS, "bare: all sent"
            )
            processor = used_since(used_before, everyone)
        told = [_said(each, DONE).split() for each in logs]
        these = [name for part in parts for name in identities(part.name, share)]
        tally = tally_of(these, place.receiver.books(), sum(int(good) for good, _ in told))
    return DrainRound(tally, max(float(moment) for _, moment in told) - begun, processor, 0.0)


def _part(name: str, url: str, share: int, in_flight: int) -> Part:
    return Part(name, [sys.executable, "-m", "bench.bare", url, name, str(share), str(max(1, in_flight))])


def _said(log: Path, beginning: str) -> str:
    """Return the line of a log that begins so, or what follows it; empty where there is none yet."""
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    found = (line for line in lines if line.startswith(beginning) and line.endswith("\n"))
    return next(found, "").removeprefix(DONE)
