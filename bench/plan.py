"""How the figures are taken, as asked for on the command line."""

from __future__ import annotations

from dataclasses import dataclass

from .contestant import Contestant, Place
from .with_outbox import Outbox
from .with_plain_task import PlainTask


@dataclass(frozen=True, slots=True)
class Plan:
    """How the figures are taken.

    Attributes:
        messages: the outbox's, in each round of `drain`; at most, elsewhere.
        plain_messages: the plain task's; its rate does not depend on how many wait.
        rounds: of each contestant.
        seconds: of each round of `latency`; at most, of `hints` and `fair`, and of `in-flight` at a full
            window.
        transactions: of each kind of `enqueue`.
        followers: parked in one of the two databases of `claim`.
        crowd: messages in the large databases of `history`, `memory`, `purge` and `search-term`; a fifth
            of that in `search-text`; a tenth waits in `history`, `snapshot`, and for the slow destination of
            `fair`.
        window: of the outbox's destination, which its two engines share.
        prefetch: the plain worker's `worker_prefetch_multiplier`.
    """

    messages: int
    plain_messages: int
    rounds: int
    seconds: float
    transactions: int
    followers: int
    crowd: int
    window: int
    prefetch: int

    @property
    def backlog(self) -> int:
        """A tenth of the crowd."""
        return self.crowd // 10

    def outbox(self, place: Place) -> Contestant:
        """Return the outbox at its place."""
        return Outbox(place, self.window)

    def plain(self, place: Place) -> Contestant:
        """Return the plain task at its place."""
        return PlainTask(place, self.prefetch)
