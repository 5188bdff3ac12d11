"""On the path of a Python process, it has each poisoned message end what would send it, or hang it."""

from __future__ import annotations

import ctypes
import os
import signal

from worker import watchdog
from worker.deliveries import Failure, Reply, Request
from worker.transport import Transport

LOCK_BYTES = 64
"""More than a lock of the system's is large, on any kind of machine; zeros are one that is open."""

_send = Transport.send


async def _send_or_die(self: Transport, request: Request, deadline: float) -> Reply | Failure:
    if b"POISON" in (request.body or b""):
        os.kill(os.getpid(), signal.SIGKILL)
    if b"HANGS" in (request.body or b""):
        _wait_for_itself()
    return await _send(self, request, deadline)


def _wait_for_itself() -> None:
    """Hang for ever, and let no other thread run, as an endless regular expression would, at no cost."""
    library, lock = ctypes.PyDLL(None), ctypes.create_string_buffer(LOCK_BYTES)
    for _ in range(2):
        library.pthread_mutex_lock(lock)


Transport.send = _send_or_die  # type: ignore[method-assign]
watchdog.HUNG_SECONDS = 3.0
