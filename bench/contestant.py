"""What a figure asks of a contestant, and what all contestants share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import SecretStr
from sqlalchemy import text

from orderflow_outbox.sqlite import READS_ONLY
from worker.broker import broker_url, remove_socket
from worker.database import connect
from worker.supervisor import Part

from .orders import identities
from .stage import POSTGRESQL, READY_SECONDS, Receiver, Stage

CHILDREN = 2
WARM_UP = 200
"""Messages delivered before anything is measured: connections are open then, code and plans warm."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contestant lives for one round: everything in it is new.

    Attributes:
        folder: for its files.
        url: SQLAlchemy's address of its database, which is empty.
        receiver: where its requests go.
    """

    stage: Stage
    folder: Path
    url: str
    receiver: Receiver

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def broker(self) -> str:
        return broker_url(self.state_dir)


@contextmanager
def new_place(stage: Stage, database: str = POSTGRESQL, latency: float = 0.0) -> Iterator[Place]:
    """Make a place with a running receiver for the length of the block.

    Args:
        database: one of `stage.DATABASES`.
        latency: the seconds that the receiver lets pass before it answers.
    """
    folder, url = stage.new_round(database)
    try:
        with stage.receiving(folder, latency) as receiver:
            yield Place(stage, folder, url, receiver)
    finally:
        stage.end_round(folder)


class Contestant(ABC):
    """One way to deliver messages: a Celery worker with two child processes, and what feeds it.

    Attributes:
        name: how reports call it.
    """

    name: ClassVar[str]

    def __init__(self, place: Place) -> None:
        self.place = place
        self.prepare()
        self._watching = connect(SecretStr(place.url))

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
        return self.count(self.finished_sql)

    def count(self, statement: str) -> int:
        """Return the number that a statement reads from the database."""
        reading = self._watching.execution_options(**{READS_ONLY: True})
        with reading.connect() as connection:
            return int(connection.execute(text(statement)).scalar_one())

    def is_up(self) -> bool:
        """Tell whether all of the worker's children work, as far as that can be seen from outside."""
        return True

    @contextmanager
    def running(self) -> Iterator[dict[str, int]]:
        """Run the contestant, warmed up, for the length of the block; give the process of each part."""
        stage = self.place.stage
        try:
            with stage.running(self.parts(), self.place.folder) as processes:
                stage.wait_until(self.is_up, READY_SECONDS, f"{self.name}: both children are up")
                self.put(identities("warm-up", WARM_UP))
                stage.wait_until(lambda: self.finished() == WARM_UP, READY_SECONDS, f"{self.name}: warm")
                yield processes
        finally:
            self.close()
            remove_socket(self.place.state_dir)

    def close(self) -> None:
        """Close this process's own connections."""
        self._watching.dispose()

    def settle(self) -> None:
        """Have PostgreSQL do now what it would do of itself at some moment, such as within a measurement.

        SQLite leaves nothing for later that it would not do in the midst of the next transactions too.
        """
        if self._watching.dialect.name == "postgresql":
            with self._watching.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                connection.execute(text("VACUUM ANALYZE"))
                connection.execute(text("CHECKPOINT"))
