"""An engine's ear: hears hints that are called out, past Celery's queue."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing

from celery import Celery

from orderflow_outbox.calling import can_call, is_called
from orderflow_outbox.publishing import Publisher

from .connecting import RETRY_SECONDS

LISTENING_SECONDS = 1
"""How long it listens before it looks whether to stop; a connection waits longer for an answer."""

log = logging.getLogger(__name__)


class Listener:
    """Listens from a thread of its own, over a connection of its own that comes back by itself.

    It says nothing of a broker that cannot be used: the worker's main process does. With one that has no
    calls, or does not allow them to this user, hints come as tasks.

    Args:
        app: the Celery application.
        wake: is called at each hint.
    """

    def __init__(self, app: Celery, wake: Callable[[], None]) -> None:
        self._app = app
        self._wake = wake
        self._stopping = threading.Event()
        threading.Thread(target=self._run, name="outbox-listener", daemon=True).start()

    def stop(self) -> None:
        """Hear nothing more, within a second; what is heard until then is passed on."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._app.connection_for_read() as connection:
                    connection.ensure_connection(max_retries=0)  # by default it tries for ever
                    if not can_call(connection):
                        return
                    while not self._stopping.is_set():
                        if is_called(connection, LISTENING_SECONDS):
                            self._heard()
            except Exception as error:
                log.debug("no hint can be heard: %s", type(error).__name__)
                self._stopping.wait(RETRY_SECONDS)

    def _heard(self) -> None:
        if not self._stopping.is_set():
            self._wake()
            return
        with closing(Publisher(self._app)) as publish:  # it was meant for an engine that goes on
            publish()
