"""Celery's scheduler, made calm: a broker that cannot be used costs beat one line, not one for each try."""

from __future__ import annotations

import logging
from typing import Any

from celery.beat import PersistentScheduler

from worker.watchman import Watchman

from .connecting import broker_switch, connection_to_publish

log = logging.getLogger(__name__)


class Scheduler(PersistentScheduler):
    """Sends what is due on a connection of its own each time: what cannot be sent comes round again."""

    producer = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._usable = broker_switch(log, self.app.connection_for_write())

    def setup_schedule(self) -> None:
        """Begin: read the schedule, and watch the engines, which may all be dead."""
        super().setup_schedule()
        Watchman().start()

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send one entry, within a second; say once when that fails, and when it works again."""
        del producer
        try:
            with connection_to_publish(self.app) as connection:
                own = self.app.amqp.Producer(connection, auto_declare=False)
                self.apply_async(entry, producer=own, advance=False)
        except Exception as error:
            self._usable.off(error)
        else:
            self._usable.on()
