"""An engine's signs of life: that it runs, when it last swept, and when it last delivered to whom."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from .deliveries import Claim
from .identity import MACHINE
from .ports import Announce, Step
from .store import watching
from .store.transactions import Store


class Pulse:
    """Notes what one engine does, as it is announced, until it is written down.

    Args:
        announce: is told of each step too.
        engine: its name.
        monotonic: the process's clock.
    """

    def __init__(
        self, announce: Announce, engine: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._announce = announce
        self._monotonic = monotonic
        self._engine = engine
        self._swept_at = monotonic()
        self._delivered_at: dict[str, float] = {}
        self._written: dict[str, float] = {}

    def __call__(self, step: Step, claim: Claim, text: str, seconds: float) -> None:
        """Fill the port `Announce`."""
        if step is Step.DELIVERED:
            self._delivered_at[claim.destination] = self._monotonic()
        self._announce(step, claim, text, seconds)

    def swept(self) -> None:
        """Note that a sweep has come to its end."""
        self._swept_at = self._monotonic()

    def write(self, store: Store) -> None:
        """Write down what was noted, in the time of the database."""
        delivered = dict(self._delivered_at)
        news = {name: at for name, at in delivered.items() if at != self._written.get(name)}
        with store.writing() as transaction:
            begun = transaction.now - timedelta(seconds=self._monotonic())
            deliveries = {name: begun + timedelta(seconds=at) for name, at in news.items()}
            swept_at = begun + timedelta(seconds=self._swept_at)
            watching.note_life(transaction, self._engine, MACHINE, swept_at, deliveries)
        self._written = delivered
