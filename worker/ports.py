"""What the engine wants of the world around it; `tasks` fills these with Celery."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from orderflow_outbox import State

from .deliveries import Claim


class Step(StrEnum):
    """A step in a message's life that is worth announcing."""

    STARTED = "started"
    DELIVERED = "delivered"
    RETRIED = "retried"
    DEAD = "dead"
    SUPERSEDED = "superseded"


_LAST_STEPS = {
    State.DELIVERED: Step.DELIVERED,
    State.DEAD: Step.DEAD,
    State.SUPERSEDED: Step.SUPERSEDED,
}


def step_to(state: State) -> Step:
    """Return the step by which an attempt brings a message to a state."""
    return _LAST_STEPS.get(state, Step.RETRIED)


class Wake(Protocol):
    """Asks the other engines to look for due messages; best effort, never raises, never waits."""

    def __call__(self) -> None: ...


class Announce(Protocol):
    """Tells watchers of a message's step; best effort, never raises, never waits.

    Args:
        step: what happened.
        claim: the message; payload, query and headers must not be told on.
        text: the verdict's reason in words.
        seconds: how long the attempt took.
    """

    def __call__(self, step: Step, claim: Claim, text: str, seconds: float) -> None: ...


def wake_nobody() -> None:
    """Fill the port `Wake` where no other engine is to be told."""


def announce_nothing(step: Step, claim: Claim, text: str, seconds: float) -> None:
    """Fill the port `Announce` where nobody watches."""
