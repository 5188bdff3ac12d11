"""Stopping without the broker's help.

Celery tells its children to stop only once it is done with the broker; with a broker that is frozen
that may be never. So the engines learn of a stop by a pipe: they share its reading end, the main
process holds the only writing end, and closing it tells them all. So does its death, where the kernel
does not end children with their parent; on Linux Celery asks for that, and their leases run out.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable

from billiard.process import active_children

log = logging.getLogger(__name__)


class StopLine:
    """The pipe between the main process and its children; make it before they are forked."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        self._main = os.getpid()

    def on_stop(self, act: Callable[[], None]) -> None:
        """In a child: call `act`, in a thread of its own, once the main process stops or is gone."""
        if os.getpid() != self._main and self._writing >= 0:
            os.close(self._writing)
            self._writing = -1

        def wait() -> None:
            os.read(self._reading, 1)
            act()

        threading.Thread(target=wait, name="outbox-stop-line", daemon=True).start()

    def stop(self, bound: float) -> None:
        """In the main process: tell every child; if this is still running in `bound` seconds, end it."""
        if self._writing < 0:
            return
        os.close(self._writing)
        self._writing = -1
        threading.Thread(target=_end_after, args=(bound,), name="outbox-stop-bound", daemon=True).start()


def _end_after(bound: float) -> None:
    time.sleep(bound)
    log.error("the worker did not end within %g s, as with a broker that does not answer: it ends now", bound)
    for child in active_children():
        try:
            os.kill(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    os._exit(0)
