"""Real processes to test with: a simulator, a database, workers that can be killed and stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr
from sqlalchemy import Engine, select

import config
from orderflow_outbox import Message, enqueue
from orderflow_outbox.tables import attempt, message
from simulator import Options, Simulator
from tests.documents import order
from tests.nursery import Program
from worker import schema
from worker.database import connect
from worker.engine_thread import EngineThread
from worker.ports import announce_nothing, wake_nobody
from worker.service import build_engine

PROJECT = Path(__file__).parents[1]
PATIENCE_SECONDS = 30.0
CALM = {"attempt_deadline": "2s", "lease": 6.0}
"""Longer than a busy machine holds up a request: what came of each is what the simulator answered."""
HASTY = {"attempt_deadline": "500ms", "lease": 1.5}
"""So short that a test may wait for a deadline or for a lease to run out; giving one of the two is enough."""

T = TypeVar("T")


def eventually(look: Callable[[], T], seconds: float = PATIENCE_SECONDS, what: str = "") -> T:
    """Return what `look` gives once it is true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or look}"
        time.sleep(0.02)
    return found


def free_port() -> int:
    """Return a port that nobody listens on, of those that the kernel gives to no connection meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rig is set up: a folder, and a database on either kind of server."""

    folder: Path
    database_url: str


class Rig:
    """A folder with a configuration, a database, and a simulator that its destination points at."""

    def __init__(self, place: Place, simulator: Simulator, **settings: Any) -> None:
        self.folder = place.folder
        self.simulator = simulator
        self.database_url = place.database_url
        self.engine: Engine = connect(SecretStr(self.database_url))
        schema.upgrade(self.engine)
        self.file = self._configure(settings)

    def _configure(self, settings: dict[str, Any]) -> Path:
        values = {
            "retry_after": ["100ms", "200ms", "400ms", "800ms"],
            "window": 4,
            "limits": "",
            "breaker": 'first_probe = "50ms"\nlongest_probe = "200ms"',
            "hooks": [],
            "broker_url": "",
            "broker_keys": "",
            "queries": "",
            "flower_port": 5555,
            "web": f"port = {free_port()}",
            "drain": "3s",
            **(HASTY if settings.keys() & HASTY.keys() else CALM),
            **settings,
        }
        (self.folder / "destinations.toml").write_text(
            f'[destinations.main]\nurl = "{self.simulator.url}"\nprivate_addresses = true\nuser = "shop"\n'
            'password = { env = "ORDERFLOW_MAIN_PASSWORD" }\n'
            f'window = {values["window"]}\nattempt_deadline = "{values["attempt_deadline"]}"\n'
            f"{values['limits']}\n"
            f"[destinations.main.breaker]\n{values['breaker']}\n"
            f"[destinations.main.retry]\nretry_after = {json.dumps(values['retry_after'])}\n"
            'retry_after_header_max = "200ms"\n'
        )
        (self.folder / "queries.toml").write_text(values["queries"])
        file = self.folder / "outbox.toml"
        file.write_text(
            f'database_url = "{self.database_url}"\nstate_dir = "{self.folder}/state"\n'
            f'broker_url = "{values["broker_url"]}"\n{values["broker_keys"]}\n'
            'queries_file = "queries.toml"\n'
            f'[engine]\nlease = "{values["lease"]}s"\nsweep = "200ms"\ndrain = "{values["drain"]}"\n'
            f'[alerts]\ngrouping = "100ms"\nhooks = {values["hooks"]}\n'
            f"[flower]\nport = {values['flower_port']}\n"
            f"[web]\n{values['web']}\n"
        )
        return file

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OUTBOX_", "FLOWER_", "ORDERFLOW_"))
        }
        return {**kept, "OUTBOX_CONFIG": str(self.file), "ORDERFLOW_MAIN_PASSWORD": "demo"}

    def order(self, reference: str, **arguments: Any) -> Message:
        """Enqueue one order in a transaction of its own."""
        with self.engine.begin() as connection:
            return enqueue(connection, "order-import", order(reference), channel="web", **arguments)

    def orders(self, count: int) -> list[Message]:
        """Enqueue `count` orders in one transaction."""
        with self.engine.begin() as connection:
            return [
                enqueue(
                    connection,
                    "order-import",
                    order(f"SO-{n}"),
                    channel="web",
                    key=f"order:SO-{n}",
                    idempotency_key=f"key-{n}",
                )
                for n in range(count)
            ]

    def rows(self) -> list[Any]:
        """Return every message's row."""
        with self.engine.connect() as connection:
            return list(connection.execute(select(message).order_by(message.c.id)).all())

    def attempts(self, message_id: int) -> list[Any]:
        """Return a message's attempts, in order."""
        with self.engine.connect() as connection:
            statement = select(attempt).where(attempt.c.message_id == message_id).order_by(attempt.c.n)
            return list(connection.execute(statement).all())

    def states(self) -> set[str]:
        return {row.state for row in self.rows()}

    @contextmanager
    def worker(self, children: int = 1) -> Iterator[WorkerProcess]:
        """Run a real Celery worker; kill what is left of it at the end."""
        worker = WorkerProcess(self, children)
        try:
            yield worker
        finally:
            worker.kill()


class WorkerProcess:
    """A Celery worker with its child processes, in a process group of its own."""

    def __init__(self, rig: Rig, children: int) -> None:
        self.log = rig.folder / f"worker-{time.monotonic_ns()}.log"
        words = ("-A", "tasks", "worker", f"--concurrency={children}", "--loglevel=INFO")
        with self.log.open("wb") as output:
            self.process = Program[bytes](
                "celery",
                *words,
                env=rig.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        """Signal every process of the worker at once."""
        os.killpg(self.process.pid, number)

    def freeze(self) -> None:
        """Stop every process of the worker; return once no thread runs, each of which stops in its turn."""
        self.signal(signal.SIGSTOP)
        processes = [self.process.pid, *self.children()]
        eventually(lambda: all(_is_stopped(each) for each in processes), what="a stop")

    def kill(self) -> None:
        """Kill every process of the worker, as a power cut would."""
        try:
            self.signal(signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait()

    def children(self) -> list[int]:
        """Return the process numbers of the worker's children."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(number) for number in listed.split()]

    def terminate(self, seconds: float = 20.0) -> int:
        """Ask the worker to stop, as an operator does; return its exit status."""
        self.process.terminate()
        return self.process.wait(seconds)

    def said(self, text: str) -> bool:
        """Tell whether the worker's log holds `text`."""
        return text in self.log.read_text(errors="replace")


def _is_stopped(process: int) -> bool:
    """Tell whether every thread of a process is stopped."""
    states = (
        stat.read_text().rpartition(")")[2].split()[0]
        for stat in Path(f"/proc/{process}").glob("task/*/stat")
    )
    return all(state == "T" for state in states)


@contextmanager
def rig(place: Place, options: Options | None = None, **settings: Any) -> Iterator[Rig]:
    """A rig at `place`, with its simulator running."""
    with Simulator.running(options) as simulator:
        made = Rig(place, simulator, **settings)
        try:
            yield made
        finally:
            made.engine.dispose()


@contextmanager
def engine_of(made: Rig) -> Iterator[EngineThread]:
    """Run an engine in this process, as a child of the worker would."""
    configuration = config.load(made.file)
    thread = EngineThread(lambda: build_engine(configuration, wake_nobody, announce_nothing))
    thread.start()
    try:
        yield thread
    finally:
        assert thread.stop(20)
