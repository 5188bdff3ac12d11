"""Places where a process can be told to die at once, for whoever wants to see that nothing is lost by it.

Inert unless the environment asks: `OUTBOX_FAILPOINT=after-claim-commits:3` has a process kill itself, as the
kernel would, the third time that it comes by.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum
from functools import cache
from itertools import count

VARIABLE = "OUTBOX_FAILPOINT"


class Failpoint(StrEnum):
    """Where."""

    BEFORE_CLAIM_COMMITS = "before-claim-commits"
    AFTER_CLAIM_COMMITS = "after-claim-commits"
    AFTER_REPLY = "after-reply"
    BEFORE_RESULT_COMMITS = "before-result-commits"
    AFTER_RESULT_COMMITS = "after-result-commits"
    IN_SWEEP = "in-sweep"
    IN_BURY = "in-bury"
    IN_ALERT = "in-alert"
    IN_REPLAY = "in-replay"
    IN_SUPERSEDE = "in-supersede"
    IN_UNPARK = "in-unpark"


def come_by(here: Failpoint) -> None:
    """Die here, if it is asked for."""
    armed = _armed()
    if armed is not None and armed.at is here:
        armed.come_by()


class _Armed:
    def __init__(self, asked: str) -> None:
        name, _, times = asked.partition(":")
        self.at = Failpoint(name)
        self._last = int(times or 1)
        self._times = count(1)

    def come_by(self) -> None:
        if next(self._times) == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


@cache
def _armed() -> _Armed | None:
    asked = os.environ.get(VARIABLE)
    return _Armed(asked) if asked else None
