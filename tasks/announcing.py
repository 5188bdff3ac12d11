"""The port `Announce`, filled with Celery's task events: in Flower, each message is a row.

Events are lossy by nature and must never hold up a delivery: they go through a bounded queue to a
thread of its own, and what does not fit is dropped and counted. Up to 200 steps a second all are
told; above that only retried and dead messages are.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from typing import Any

from celery import Celery
from celery.events import EventDispatcher

from worker.deliveries import Claim
from worker.ports import Step

from .connecting import connection_to_publish
from .rows import Told, events_of
from .telling import SendingWatch

MAX_STEPS_A_SECOND = 200
MAX_QUEUED = 5000
FLUSH_SECONDS = 0.2
BROKER_PAUSE_SECONDS = 2.0
ALWAYS_TOLD = frozenset({Step.RETRIED, Step.DEAD})


class Announcer:
    """Sends the steps of this process's messages as Celery events.

    Args:
        app: the Celery application.
        node_name: the worker's node name, under which watchers know it.
        watch: is told whether events can be sent.

    Attributes:
        dropped: steps not told because too many came or the broker was away.
    """

    def __init__(self, app: Celery, node_name: str, watch: SendingWatch) -> None:
        self._app = app
        self._watch = watch
        self._node_name = node_name
        self._queue: queue.Queue[Told | None] = queue.Queue(MAX_QUEUED)
        self._second = 0
        self._told_this_second = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="outbox-announcer", daemon=True)
        self._thread.start()

    def __call__(self, step: Step, claim: Claim, text: str, seconds: float) -> None:
        if step not in ALWAYS_TOLD and self._too_many():
            self.dropped += 1
            return
        try:
            self._queue.put_nowait(Told(step, claim, text, seconds, time.time()))
        except queue.Full:
            self.dropped += 1

    def close(self, bound: float = 2.0) -> None:
        """Send what is queued, within `bound` seconds."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(bound)

    def _too_many(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._told_this_second = second, 0
        self._told_this_second += 1
        return self._told_this_second > MAX_STEPS_A_SECOND

    def _run(self) -> None:
        while True:
            try:
                with connection_to_publish(self._app) as connection:
                    self._send_all(connection)
                return
            except Exception as error:
                self._watch.fails("events", error)
                time.sleep(BROKER_PAUSE_SECONDS)

    def _send_all(self, connection: Any) -> None:
        dispatcher = EventDispatcher(
            connection,
            self._node_name,
            app=self._app,
            buffer_while_offline=False,
            buffer_group=frozenset({"task"}),
            buffer_limit=MAX_STEPS_A_SECOND,
        )
        told = self._queue.get()
        while told is not None:
            for kind, fields in events_of(told):
                dispatcher.send(kind, timestamp=told.at, **fields)
            told = self._next(dispatcher)
        dispatcher.flush()
        dispatcher.close()

    def _next(self, dispatcher: Any) -> Told | None:
        """Return the next step, sending off what is buffered when none comes for a moment."""
        with suppress(queue.Empty):
            return self._queue.get(timeout=FLUSH_SECONDS)
        dispatcher.flush()
        self._watch.works("events")
        return self._queue.get()
