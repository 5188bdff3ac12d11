"""Flower's ear, made calm: its own doubles the pause after every try, without an end, and tells of each."""

from __future__ import annotations

import logging
import time
from typing import Any

from celery.events import EventReceiver
from flower import events

from .connecting import RETRY_SECONDS, broker_switch, connect_patiently

log = logging.getLogger(__name__)


class Events(events.Events):
    """Hears what workers tell, and comes back within seconds of the broker."""

    def run(self) -> None:
        """Listen for ever."""
        self._usable = broker_switch(log, self.capp.connection())
        while True:
            try:
                with self.capp.connection() as connection:
                    connect_patiently(connection, self._usable)
                    receiver = EventReceiver(connection, handlers={"*": self.on_event}, app=self.capp)
                    receiver.capture(limit=None, timeout=None, wakeup=True)
            except Exception as error:
                self._usable.off(error)
                time.sleep(RETRY_SECONDS)

    def on_event(self, event: Any) -> None:
        """Take in one event."""
        self._usable.on()
        super().on_event(event)


# It says at every try that it is connected.
logging.getLogger("kombu.mixins").setLevel(logging.WARNING)
