"""The contestant `plain`: a Celery task for each message, no outbox."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from celery import Celery

from worker.broker import command
from worker.supervisor import Part

from . import plain
from .contestant import CHILDREN, Contestant, Place
from .orders import PATH, document, headers
from .stage import READY_SECONDS, BenchFailed

DEFAULT_PREFETCH = 16


class PlainTask(Contestant):
    """Messages are tasks in the broker; results are rows of a table.

    Args:
        prefetch: Celery's `worker_prefetch_multiplier`.
    """

    name = "plain"
    finished_sql = "SELECT count(*) FROM plain_result"

    def __init__(self, place: Place, prefetch: int = DEFAULT_PREFETCH) -> None:
        self._prefetch = prefetch
        self._app = Celery(broker=place.broker, set_as_current=False)
        super().__init__(place)

    def prepare(self) -> None:
        """Make its tables."""
        plain.make_tables(self.place.url)

    def parts(self) -> Sequence[Part]:
        """Return the broker, the same program as the service's, and the worker."""
        celery = [sys.executable, "-m", "celery", "-A", "bench.plain", "worker"]
        options = [f"--concurrency={CHILDREN}", "--loglevel=WARNING", "--hostname=plain@%h"]
        variables = {
            plain.BROKER_VARIABLE: self.place.broker,
            plain.DATABASE_VARIABLE: self.place.url,
            plain.URL_VARIABLE: f"{self.place.receiver.url}/{PATH}",
            plain.PREFETCH_VARIABLE: str(self._prefetch),
        }
        return [
            Part("broker", command(self.place.state_dir)),
            Part("worker", [*celery, *options], variables),
        ]

    def put(self, these: Sequence[str]) -> None:
        """Send a task for each."""
        for identity in these:
            send_task(self._app, identity)

    def pause(self) -> None:
        """Have the worker stop consuming its queue."""
        control = self._app.control
        if not control.cancel_consumer(plain.QUEUE, reply=True, timeout=READY_SECONDS, limit=1):
            raise BenchFailed(f"not within {READY_SECONDS:g} s: plain: the worker stops consuming")

    def go(self) -> None:
        """Have the worker consume its queue."""
        self._app.control.add_consumer(plain.QUEUE)

    def shop(self) -> dict[str, str]:
        """Return what a shop of this contestant needs to know."""
        return {"SHOP_DATABASE_URL": self.place.url, "SHOP_BROKER_URL": self.place.broker}


def send_task(app: Celery, identity: str) -> None:
    """Publish the task that sends the order of this identity: the request the outbox would make."""
    app.send_task(plain.SEND, args=[identity, document(identity), headers(identity)], queue=plain.QUEUE)


def send_stored(app: Celery, identity: str) -> None:
    """Publish the task that sends the order of this identity, which its shop has stored."""
    app.send_task(plain.SEND_STORED, args=[identity, headers(identity)], queue=plain.QUEUE)
