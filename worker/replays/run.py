"""A replay run: many dead messages sent again with care. The values; what is decided of them is beside."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from config import Rate
from worker.rate import Bucket


class RunState(StrEnum):
    """Where a run stands: `canary → waiting → running → ending → finished`.

    From each of the first three it may be stopped, by a person or because too many fail, and go on later;
    what is cancelled does not. While `ending` all are sent, and some have not ended.
    """

    CANARY = "canary"
    WAITING = "waiting"
    RUNNING = "running"
    ENDING = "ending"
    STOPPED = "stopped"
    FINISHED = "finished"
    CANCELLED = "cancelled"


STATES_IN_WORDS = {
    RunState.CANARY: "sends its canary",
    RunState.WAITING: "waits until its canary has ended",
    RunState.RUNNING: "sends the rest",
    RunState.ENDING: "has sent all, of which some have not ended",
    RunState.STOPPED: "stopped",
    RunState.FINISHED: "finished",
    RunState.CANCELLED: "cancelled",
}
AT_WORK = (RunState.CANARY, RunState.WAITING, RunState.RUNNING, RunState.ENDING)
STOPPABLE = (RunState.CANARY, RunState.WAITING, RunState.RUNNING)


class Outcome(StrEnum):
    """What became of a member of a run."""

    WAITING = "waiting"
    LEFT_OUT = "left_out"
    SENT = "sent"
    DELIVERED = "delivered"
    DEAD = "dead"
    SPLIT = "split"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    GONE = "gone"


FAILED = frozenset({Outcome.DEAD, Outcome.SPLIT})
"""A split one counts, too: items of it were not delivered, but are dead or to be tried again as messages of
their own."""


@dataclass(frozen=True, slots=True)
class Care:
    """With how much care many are replayed.

    Attributes:
        canary: how many go first; 0 for none.
        patience: how long the canary may take to end.
        rate: how many of the rest may be sent in a span of time; None for as many as go.
        stop_share: the share of failures past which the run is stopped, from 0 to 1; None for never.
    """

    canary: int = 0
    patience: timedelta = timedelta(hours=1)
    rate: Rate | None = None
    stop_share: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run at a moment.

    Attributes:
        wanted: which messages, as it was asked.
        goes_on_as: the state in which it goes on, should it be stopped and continued.
        said: why it is stopped or cancelled.
        total: how many messages were wanted when it began.
        chosen: how many of them were to be sent.
        next_place: of how many of those the turn has come: no smaller place waits, though some may be gone.
        left_out: how many were not sent, when it began or when it was their turn.
        others: how many replays ended as neither delivered nor failed: superseded, cancelled, gone.
        judged: how many were delivered or failed since the run began, or was last continued.
        judged_failed: how many of those failed.
        latest: the latest of those, a character each.
    """

    id: int
    begun_at: datetime
    begun_by: str
    why: str
    wanted: dict[str, object]
    care: Care
    state: RunState
    changed_at: datetime
    changed_by: str
    total: int
    chosen: int
    canary_sent_at: datetime | None = None
    bucket: Bucket | None = None
    goes_on_as: RunState | None = None
    said: str | None = None
    next_place: int = 0
    left_out: int = 0
    sent: int = 0
    delivered: int = 0
    failed: int = 0
    others: int = 0
    judged: int = 0
    judged_failed: int = 0
    latest: str = ""

    @property
    def ended(self) -> int:
        """How many of the replays have come to their end."""
        return self.delivered + self.failed + self.others

    @property
    def under_way(self) -> int:
        """How many of the replays have not."""
        return self.sent - self.ended

    @property
    def to_come(self) -> int:
        """How many messages are still to be replayed."""
        return self.chosen - self.next_place
