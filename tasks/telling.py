"""One voice for all that a process sends to the broker: one line when it fails, one when all works again."""

from __future__ import annotations

import logging
import threading

from worker.switch import LoggedSwitch


class SendingWatch:
    """Knows which kinds of sending fail just now; hints and events go by connections of their own.

    Args:
        log: where to.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._lock = threading.Lock()
        self._failing: set[str] = set()
        self._usable = LoggedSwitch(
            log,
            "the broker takes hints and events again",
            "the broker does not take all hints and events; messages are delivered without them",
        )

    def works(self, kind: str) -> None:
        with self._lock:
            self._failing.discard(kind)
            if not self._failing:
                self._usable.on()

    def fails(self, kind: str, error: BaseException) -> None:
        with self._lock:
            self._failing.add(kind)
            self._usable.off(error)
