"""Where the proof is played: a receiver, a shop and engines, each a process of its own, and two books."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.rig import PROJECT, Place, Rig, eventually
from worker.failpoints import VARIABLE, Failpoint

from .book import entries
from .checker import Evidence, evidence, unfinished, violations
from .receiver import READY

LEASE = 1.5
"""Seconds: so long what a killed engine had in hand waits for the sweep."""


class Stage:
    """A place with a receiver that answers, and what is noted there.

    Args:
        place: a folder and a database.
        url: the receiver's address.
        settings: of the rig's configuration.
    """

    def __init__(self, place: Place, url: str, **settings: Any) -> None:
        self.committed_book = place.folder / "committed.jsonl"
        self.received_book = place.folder / "received.jsonl"
        values = {"lease": LEASE, "attempt_deadline": "500ms", **settings}
        self.rig = Rig(place, SimpleNamespace(url=url), **values)  # type: ignore[arg-type]

    def start(
        self, module: str, *words: str, more: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a Python module in a process of its own, in the rig's environment."""
        environment = {**self.rig.environment, "PRODUCER_DATABASE_URL": self.rig.database_url, **(more or {})}
        with (self.rig.folder / "processes.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", module, *words], cwd=PROJECT, env=environment, stdout=log, stderr=log
            )

    def produce(self, count: int, keys: int, first: int = 0) -> None:
        """Have the shop commit orders."""
        words = (str(self.committed_book), str(first), str(count), str(keys))
        assert self.start("tests.proof.producer", *words).wait(60) == 0

    @contextmanager
    def engine(self, failpoint: str = "") -> Iterator[subprocess.Popen[bytes]]:
        """Run an engine, which may be told to die at a failpoint; kill it at the end."""
        process = self.start("tests.proof.engine", more={VARIABLE: failpoint})
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def dies(self, failpoint: Failpoint, times: int = 1) -> None:
        """Run an engine until it has died where it was told to."""
        with self.engine(f"{failpoint}:{times}") as process:
            eventually(lambda: process.poll() is not None, what=f"an engine that dies at {failpoint}")
            assert process.returncode == -signal.SIGKILL

    def in_flight(self) -> int:
        """Return how many messages are in an engine's hands."""
        return sum(row.state == "sending" for row in self.rig.rows())

    def received(self) -> list[dict[str, Any]]:
        """Return what the receiver has noted."""
        return entries(self.received_book)

    def seen(self) -> Evidence:
        """Return what there is to compare now."""
        return evidence(self.rig.engine, entries(self.committed_book), self.received())

    def assert_all_kept(self) -> Evidence:
        """Run an engine until nothing is under way, and hold all that was noted together."""
        with self.engine():
            eventually(self.is_at_rest)
        seen = self.seen()
        broken = violations(seen, at_rest=True)
        assert not broken, "\n".join(broken)
        return seen

    def is_at_rest(self) -> bool:
        """Tell whether every message has come to its end, or waits for one that did by dying."""
        return not list(unfinished(self.seen()))


@contextmanager
def stage(place: Place, stall: str | None = None, **settings: Any) -> Iterator[Stage]:
    """A stage at `place`, with its receiver running.

    Args:
        stall: the receiver's place and number of the request that it never answers.
    """
    book = place.folder / "received.jsonl"
    with receiver(book, stall) as url:
        made = Stage(place, url, **settings)
        try:
            yield made
        finally:
            made.rig.engine.dispose()


@contextmanager
def receiver(book: Path, stall: str | None = None) -> Iterator[str]:
    """Run a receiver in a process of its own; give its address."""
    words = [str(book), *([stall] if stall else [])]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.proof.receiver", *words],
        cwd=PROJECT,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert line.startswith(READY)
        yield line.removeprefix(READY).strip()
    finally:
        process.kill()
        process.wait()
