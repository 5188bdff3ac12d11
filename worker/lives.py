"""A message's life in words: the same in a terminal and in the console."""

from __future__ import annotations

from orderflow_outbox import State

from .store.claiming import QUARANTINED_FROM
from .store.finding import Life

DELIVERED = "delivered"

IN_WORDS = {
    State.PENDING: "waits",
    State.SENDING: "is being sent",
    State.DELIVERED: "was delivered",
    State.DEAD: "is dead",
    State.SUPERSEDED: "was superseded by a later one",
    State.CANCELLED: "was cancelled",
}


def in_one_line(life: Life) -> str:
    """Return how a message stands."""
    return f"{IN_WORDS[State(life.message['state'])]}{_but_for_items(life)}{_doubt(life)}"


def _but_for_items(life: Life) -> str:
    """Return in words how many items of a delivered message went on as messages of their own."""
    if life.message["state"] != State.DELIVERED or not life.items:
        return ""
    last = life.items[-1]["n"]
    others = sum(row["n"] == last and row["verdict"] != DELIVERED for row in life.items)
    return f", but for items that are messages of their own: {others}" if others else ""


def _doubt(life: Life) -> str:
    return ", in doubt: an attempt may have been carried out" if life.message["in_doubt"] else ""


def rescues_in_words(number: int) -> str | None:
    """Say how often its lease ran out, and that it is in quarantine for that."""
    if number < QUARANTINED_FROM:
        return str(number) if number else None
    return f"{number}: it is sent by a process of its own, since it may be what ended those that had it"
