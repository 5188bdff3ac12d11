"""What both contestants stand on: one PostgreSQL that forces every commit to disk, a broker, a receiver."""

from __future__ import annotations

import http.client
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.postgres import Postgres
from worker.supervisor import Part, Supervisor

from .machine import prefer_a_disk
from .receiver import BOOKS, COUNT, READY

DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
READY_SECONDS = 30.0
LOOK_SECONDS = 0.01
RECEIVER = "receiver"


class BenchFailed(Exception):
    """A figure could not be taken, or what it says is not to be trusted; one line for a person."""


@dataclass
class Stage:
    """The surroundings of every round.

    Attributes:
        folder: for logs and state, on the same filesystem as the database.
        server: holds a database for each round.
        troubles: what parts said that stopped by themselves.
    """

    folder: Path
    server: Postgres
    troubles: list[str] = field(default_factory=list)
    _rounds: int = 0

    def new_round(self) -> tuple[Path, str]:
        """Return a new folder and the name of a new, empty database."""
        self._rounds += 1
        name = f"round_{self._rounds}"
        folder = self.folder / name
        folder.mkdir()
        self.server.execute(f"CREATE DATABASE {name}")
        return folder, name

    @contextmanager
    def running(self, parts: Sequence[Part], folder: Path) -> Iterator[None]:
        """Run parts for the length of the block, with their logs in `folder`."""
        with Supervisor(parts, self.troubles.append, folder):
            yield

    @contextmanager
    def receiving(self, folder: Path) -> Iterator[Receiver]:
        """Run a receiver with empty books for the length of the block."""
        part = Part(RECEIVER, [sys.executable, "-m", "bench.receiver"])
        with self.running([part], folder):
            log = folder / f"{RECEIVER}.log"
            self.wait_until(lambda: READY in _text(log), READY_SECONDS, "the receiver is ready")
            yield Receiver(_text(log).removeprefix(READY).strip())

    def wait_until(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Return once `done` holds.

        Raises:
            BenchFailed: not within `seconds`, or a part stopped meanwhile.
        """
        deadline = time.monotonic() + seconds
        while not done():
            self.check_parts()
            if time.monotonic() > deadline:
                raise BenchFailed(f"not within {seconds:g} s: {what}")
            time.sleep(LOOK_SECONDS)

    def check_parts(self) -> None:
        """Raise BenchFailed when a part has stopped by itself."""
        if self.troubles:
            raise BenchFailed(self.troubles[0])


class Receiver:
    """The receiver's books, asked over HTTP.

    Attributes:
        url: where requests go.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)

    def count(self) -> int:
        """Return how many requests were received."""
        return int(self._get(COUNT))

    def books(self) -> list[tuple[str, float]]:
        """Return the identity and the moment, by the monotonic clock, of each request received."""
        return [(identity, moment) for identity, moment in self._get(BOOKS)]

    def _get(self, path: str) -> Any:
        self._connection.request("GET", path)
        return json.loads(self._connection.getresponse().read())


@contextmanager
def set_up() -> Iterator[Stage]:
    """Start the database server; leave nothing behind."""
    prefer_a_disk()
    with (
        tempfile.TemporaryDirectory(prefix="outbox-bench-") as folder,
        Postgres.running(DURABLE) as server,
    ):
        yield Stage(Path(folder), server)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""
