"""A watchman beside the engines: tells of them when they are all dead, since it lives in another process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from config import Configuration, load

from . import schema
from .alerts import send_due_alerts
from .database import connect
from .store.causes import AlertTimes
from .store.transactions import Store
from .switch import LoggedSwitch
from .watching import pause_between_looks, watch

PAUSE_AFTER_TROUBLE_SECONDS = 10.0

log = logging.getLogger(__name__)


class Watchman:
    """Watches and sends due alerts in a thread, whatever comes.

    Args:
        read: returns the configuration; what is wrong with it is told in the log, and it is read again.
    """

    def __init__(self, read: Callable[[], Configuration] = lambda: load(need_secrets=False)) -> None:
        self._read = read
        self._usable = LoggedSwitch(log, "the service is watched again", "the service cannot be watched")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox-watchman", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End, once an alert that is under way has been sent."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._watch()
            except Exception as error:
                self._usable.off(error)
                self._stopping.wait(PAUSE_AFTER_TROUBLE_SECONDS)

    def _watch(self) -> None:
        configuration = self._read()
        settings = configuration.settings
        alert_times = AlertTimes(settings.alerts.grouping, settings.alerts.reminder)
        engine = connect(settings.database_address(), must_exist=True)
        try:
            schema.check(engine)
            store = Store(engine)
            while not self._stopping.wait(pause_between_looks(settings)):
                watch(store, configuration, alert_times)
                send_due_alerts(store, settings.alerts)
                self._usable.on()
        finally:
            engine.dispose()
