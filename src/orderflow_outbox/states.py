"""The states a message and a dead letter can be in: the vocabulary of tables, commands and pages."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a message stands.

    `pending → sending → delivered | pending | dead | superseded`, and
    `pending → dead | superseded | cancelled`. The last four are final.
    """

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    DEAD = "dead"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"


HELD = "held"
"""The state of a gate that nothing is sent through."""

CLOSED = "closed"
"""The state of the breaker of a gate while the destination works."""

RELEASED = "released"
"""The verdict of an attempt that a stop cut short."""


class Resolution(StrEnum):
    """What became of a dead letter."""

    OPEN = "open"
    REPLAYED = "replayed"
    DISCARDED = "discarded"
