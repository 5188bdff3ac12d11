"""What a figure asks of a contestant, and what both contestants share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psycopg

from worker.broker import broker_url, remove_socket
from worker.supervisor import Part

from .orders import identities
from .stage import READY_SECONDS, Receiver, Stage

CHILDREN = 2
WARM_UP = 200
"""Messages delivered before anything is measured: connections are open then, code and plans warm."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contestant lives for one round: everything in it is new."""

    stage: Stage
    folder: Path
    database: str
    receiver: Receiver

    @property
    def dsn(self) -> str:
        return self.stage.server.dsn(self.database)

    @property
    def url(self) -> str:
        return self.stage.server.url(self.database)

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def broker(self) -> str:
        return broker_url(self.state_dir)


class Contestant(ABC):
    """One way to deliver messages: a Celery worker with two child processes, and what feeds it.

    Attributes:
        name: how reports call it.
    """

    name: ClassVar[str]

    def __init__(self, place: Place) -> None:
        self.place = place
        self.prepare()
        self._watching = psycopg.connect(place.dsn, autocommit=True)

    @abstractmethod
    def prepare(self) -> None:
        """Make the tables and the configuration."""

    @abstractmethod
    def parts(self) -> Sequence[Part]:
        """Return the processes to run: broker and worker."""

    @abstractmethod
    def put(self, these: Sequence[str]) -> None:
        """Hand in an order for each identity, without measuring how fast."""

    @abstractmethod
    def pause(self) -> None:
        """Have the worker, which stays up, take nothing on until `go`."""

    @abstractmethod
    def go(self) -> None:
        """Let the paused worker work."""

    @abstractmethod
    def shop(self) -> dict[str, str]:
        """Return the variables by which `bench.shop` reaches this contestant."""

    @property
    @abstractmethod
    def finished_sql(self) -> str:
        """The statement that counts the messages delivered."""

    def finished(self) -> int:
        """Return how many messages the database calls delivered."""
        row = self._watching.execute(self.finished_sql.encode()).fetchone()
        return 0 if row is None else int(row[0])

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the contestant, warmed up, for the length of the block."""
        stage = self.place.stage
        try:
            with stage.running(self.parts(), self.place.folder):
                stage.wait_until(self._children_are_up, READY_SECONDS, f"{self.name}: both children are up")
                self.put(identities("warm-up", WARM_UP))
                stage.wait_until(lambda: self.finished() == WARM_UP, READY_SECONDS, f"{self.name}: warm")
                yield
        finally:
            self.close()
            remove_socket(self.place.state_dir)

    def close(self) -> None:
        """Close this process's own connections."""
        self._watching.close()

    def settle(self) -> None:
        """Do now what the server would do of itself at a moment of its own, such as within a measurement."""
        self._watching.execute("VACUUM ANALYZE")
        self._watching.execute("CHECKPOINT")

    def _children_are_up(self) -> bool:
        """Tell whether each child has connected to the database, which each does at its start."""
        row = self._watching.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend'"
            " AND pid <> pg_backend_pid()"
        ).fetchone()
        return row is not None and int(row[0]) >= CHILDREN
