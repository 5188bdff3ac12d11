"""How long what has ended is kept before it is purged."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

from orderflow_outbox import State

from .values import Strict, duration, in_words

NEVER = "never"
"""What is written for what is not purged at all."""
SHORTEST = timedelta(days=1)
"""While a message is kept, enqueueing it again does not send it again: a shop may take a night to do so."""


def _kept_for(value: Any) -> timedelta | None:
    if value is None or value == NEVER:
        return None
    try:
        span = duration(value)
    except ValueError as error:
        raise ValueError(f'{error}, or "{NEVER}"') from None
    if span < SHORTEST:
        raise ValueError(
            f"keep it for {in_words(SHORTEST)} at least: as long as a message is kept, it is not sent a "
            "second time when it is enqueued again"
        )
    return span


KeptFor = Annotated[timedelta | None, BeforeValidator(_kept_for)]
"""How long from an end on; None for ever."""


class RetentionSettings(Strict):
    """The table `retention`."""

    delivered: KeptFor = timedelta(days=30)
    superseded: KeptFor = timedelta(days=30)
    cancelled: KeptFor = timedelta(days=30)
    dead: KeptFor = timedelta(days=180)
    audit: KeptFor = timedelta(days=730)
    incidents: KeptFor = timedelta(days=730)

    def of(self, state: str) -> timedelta | None:
        """Return how long a message is kept that ended in `state`; None for ever, and if it has not ended."""
        return {
            State.DELIVERED.value: self.delivered,
            State.SUPERSEDED.value: self.superseded,
            State.CANCELLED.value: self.cancelled,
            State.DEAD.value: self.dead,
        }.get(state)

    @property
    def shortest(self) -> timedelta | None:
        """How long any message is kept at least; None where all are kept for ever."""
        spans = (self.delivered, self.superseded, self.cancelled, self.dead)
        return min((span for span in spans if span is not None), default=None)
