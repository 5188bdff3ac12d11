"""What all contestants stand on: one PostgreSQL that forces every commit to disk, a broker, a receiver."""

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

from pydantic import SecretStr
from sqlalchemy import Engine

from tests.postgres import Postgres
from worker.database import connect
from worker.supervisor import Part, Supervisor

from .machine import prefer_a_disk
from .processor import children_of_ours
from .receiver import BOOKS, COUNT, PROGRESS, READY

DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
POSTGRESQL, SQLITE = DATABASES = ("postgresql", "sqlite")
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

    def new_round(self, database: str = POSTGRESQL) -> tuple[Path, str]:
        """Return a new folder and the address of a new, empty database, as SQLAlchemy has it.

        Args:
            database: one of `DATABASES`.
        """
        self._rounds += 1
        name = f"round_{self._rounds}"
        folder = self.folder / name
        folder.mkdir()
        if database == SQLITE:
            return folder, f"sqlite:///{folder / 'outbox.db'}"
        self.server.execute(f"CREATE DATABASE {name}")
        return folder, self.server.url(name)

    def end_round(self, folder: Path) -> None:
        """Drop a round's database on the server: it takes up disk, and autovacuum sees to it at any time."""
        self.server.execute(f"DROP DATABASE IF EXISTS {folder.name} WITH (FORCE)")

    @property
    def server_pid(self) -> int:
        """The database server's first process."""
        return int((self.server.data / "postmaster.pid").read_text().split()[0])

    @contextmanager
    def running(self, parts: Sequence[Part], folder: Path) -> Iterator[dict[str, int]]:
        """Run parts for the length of the block, with their logs in `folder`; give the process of each."""
        before = children_of_ours()
        with Supervisor(parts, self.troubles.append, folder):
            begun = [pid for pid in children_of_ours() if pid not in before]
            yield dict(zip((part.name for part in parts), begun, strict=True))

    @contextmanager
    def receiving(self, folder: Path, latency: float = 0.0) -> Iterator[Receiver]:
        """Run a receiver with empty books for the length of the block.

        Args:
            latency: the seconds that it lets pass before it answers.
        """
        part = Part(RECEIVER, [sys.executable, "-m", "bench.receiver", "--latency", str(latency)])
        with self.running([part], folder) as processes:
            log = folder / f"{RECEIVER}.log"
            self.wait_until(lambda: READY in _text(log), READY_SECONDS, "the receiver is ready")
            yield Receiver(_text(log).removeprefix(READY).strip(), processes[RECEIVER])

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
        pid: its process.
    """

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)

    def count(self) -> int:
        """Return how many requests were received."""
        return int(self._get(COUNT))

    def books(self) -> list[tuple[str, float]]:
        """Return the identity and the moment, by the monotonic clock, of each request received."""
        return [(identity, moment) for identity, moment in self._get(BOOKS)]

    def progress(self) -> list[tuple[float, float]]:
        """Return each request's moment, and the requests in progress summed up over the time till then."""
        return [(moment, summed) for moment, summed in self._get(PROGRESS)]

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


@contextmanager
def reaching(url: str) -> Iterator[Engine]:
    """Reach a database as a worker reaches it, for the length of the block."""
    engine = connect(SecretStr(url))
    try:
        yield engine
    finally:
        engine.dispose()


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""
