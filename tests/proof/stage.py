"""Where the proof is played: a receiver, a shop and engines, each a process of its own, and two books."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlalchemy import ColumnElement, func, select

from orderflow_outbox import State
from orderflow_outbox.tables import message
from tests.nursery import Program
from tests.rig import Place, Rig, eventually
from worker.failpoints import VARIABLE, Failpoint

from .book import entries
from .checker import Evidence, evidence, unfinished, violations
from .clock import SetClock
from .receiver import READY

LEASE = 1.5
"""Seconds: so long what a killed engine had in hand waits for the sweep."""

UNHURRIED = {"lease": 20, "attempt_deadline": "6s"}
"""Settings by which no busy machine repeats a request: then each repeat is a fault of ours."""
REPLAY_ALL = ("dead", "replay", "--all", "--by", "ann", "--why", "mended")


class Stage:
    """A place with a receiver that answers, and what is noted there.

    Args:
        place: a folder and a database.
        url: the receiver's address.
        clock: what the processes see as the time, if a test sets it.
        settings: of the rig's configuration.
    """

    def __init__(self, place: Place, url: str, clock: SetClock | None = None, **settings: Any) -> None:
        self._clock = clock
        self.shop_books: list[Path] = []
        self.received_book = place.folder / "received.jsonl"
        self.log = place.folder / "processes.log"
        values = {"lease": LEASE, "attempt_deadline": "500ms", **settings}
        self.rig = Rig(place, SimpleNamespace(url=url), **values)  # type: ignore[arg-type]

    def start(self, module: str, *words: str, more: Mapping[str, str] | None = None) -> Program[bytes]:
        """Start a Python module in a process of its own, in the rig's environment."""
        environment = {**self.rig.environment, "PRODUCER_DATABASE_URL": self.rig.database_url, **(more or {})}
        run = self._clock.running(module, *words) if self._clock else (module, *words)
        with self.log.open("ab") as log:
            return Program(*run, env=environment, stdout=log, stderr=log)

    def fork(self, act: Callable[..., object], *arguments: object) -> BaseProcess:
        """Have a child of this process do something: it begins at once, where a new Python takes long."""
        self.rig.engine.dispose()  # SQLite must not be open here while a child is made
        process = multiprocessing.get_context("fork").Process(target=act, args=arguments, daemon=True)
        process.start()
        return process

    def said(self, text: str) -> bool:
        """Tell whether a process has logged `text`."""
        return text in self.log.read_text(errors="replace")

    def book(self, first: int = 0) -> Path:
        """Return the book of the shop whose orders are numbered from `first`."""
        book = self.rig.folder / f"shop-{first}.jsonl"
        if book not in self.shop_books:
            self.shop_books.append(book)
        return book

    def shop(self, count: int, keys: int, *words: str, first: int = 0) -> Program[bytes]:
        """Start a shop that commits orders, numbered from `first`, with a process and a book of its own."""
        numbers = (str(first), str(count), str(keys))
        return self.start("tests.proof.producer", str(self.book(first)), *numbers, *words)

    def produce(self, count: int, keys: int, *words: str, first: int = 0) -> None:
        """Have the shop commit orders, and wait until it has."""
        assert self.shop(count, keys, *words, first=first).wait(60) == 0

    @contextmanager
    def engine(self, failpoint: str = "") -> Iterator[Program[bytes]]:
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
        return self._count(message.c.state == State.SENDING)

    def received(self) -> list[dict[str, Any]]:
        """Return what the receiver has noted."""
        return entries(self.received_book)

    def seen(self) -> Evidence:
        """Return what there is to compare now."""
        shops = [entry for book in self.shop_books for entry in entries(book)]
        return evidence(self.rig.engine, shops, self.received())

    def assert_all_kept(self) -> Evidence:
        """Run an engine until nothing is under way, and hold all that was noted together."""
        with self.engine():
            return self.assert_kept()

    def assert_kept(self) -> Evidence:
        """Wait until nothing is under way by the engines that run, and hold all that was noted together."""
        eventually(self.is_at_rest)
        seen = self.seen()
        broken = violations(seen, at_rest=True)
        assert not broken, "\n".join(broken)
        return seen

    def is_quiet(self) -> bool:
        """Tell whether nothing is being sent or due, by one look: for who looks often, at many messages."""
        due = (message.c.state == State.PENDING) & message.c.due_at.is_not(None)
        return not self._count(due | (message.c.state == State.SENDING))

    def is_at_rest(self) -> bool:
        """Tell whether every message has come to its end, or waits for one that did by dying."""
        return self.is_quiet() and not list(unfinished(self.seen()))

    def _count(self, condition: ColumnElement[bool]) -> int:
        with self.rig.engine.connect() as connection:
            return connection.execute(select(func.count()).where(condition)).scalar_one()


@contextmanager
def stage(
    place: Place, stall: str | None = None, clock: SetClock | None = None, **settings: Any
) -> Iterator[Stage]:
    """A stage at `place`, with its receiver running.

    Args:
        stall: the receiver's place and number of the request that it never answers.
        clock: what the processes see as the time, if a test sets it.
    """
    book = place.folder / "received.jsonl"
    with receiver(book, stall) as url:
        made = Stage(place, url, clock, **settings)
        try:
            yield made
        finally:
            made.rig.engine.dispose()


@contextmanager
def receiver(book: Path, stall: str | None = None) -> Iterator[str]:
    """Run a receiver in a process of its own; give its address."""
    words = [str(book), *([stall] if stall else [])]
    process = Program[bytes]("tests.proof.receiver", *words, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert line.startswith(READY)
        yield line.removeprefix(READY).strip()
    finally:
        process.kill()
        process.wait()
