"""The port `Wake`, filled with a hint on the worker's own queue."""

from __future__ import annotations

import queue
import threading

from celery import Celery

from orderflow_outbox.publishing import Publisher

from .telling import SendingWatch


class Waker:
    """Sends hints from a thread of its own; at most one waits, and a dead broker holds nobody up.

    Args:
        app: the Celery application.
        watch: is told of hints that are sent and of those that are lost.
    """

    def __init__(self, app: Celery, watch: SendingWatch) -> None:
        self._app = app
        self._watch = watch
        self._wanted: queue.Queue[None] = queue.Queue(maxsize=1)
        threading.Thread(target=self._run, name="outbox-waker", daemon=True).start()

    def __call__(self) -> None:
        try:
            self._wanted.put_nowait(None)
        except queue.Full:  # one is on its way already
            return

    def _run(self) -> None:
        publish = Publisher(self._app)
        while True:
            self._wanted.get()
            try:
                publish()
            except Exception as error:
                self._watch.fails("hints", error)
            else:
                self._watch.works("hints")
