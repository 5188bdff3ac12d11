"""Reading the receiver's books: how fast messages came in, and whether the database says the same of them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import select

from orderflow_outbox import State
from orderflow_outbox.tables import message

from .contestant import Contestant, Place
from .stage import READY_SECONDS, reaching
from .tally import Tally, tally_of

QUIET_SECONDS = 0.5
"""A worker that is held has read so, and has nothing in hand, once nothing was being sent for so long."""

_IN_HAND = "SELECT count(*) FROM outbox_message WHERE state = 'sending'"

Books = Sequence[tuple[str, float]]


def moments_of(books: Books, prefix: str) -> list[float]:
    """Return when each request came whose identity begins so, the first one first, in monotonic seconds."""
    return sorted(moment for identity, moment in books if identity.startswith(f"{prefix}-"))


def rate_between(moments: Sequence[float], first: int, last: int) -> float:
    """Return the messages per second from the first-th to the last-th, counted from 0."""
    return (last - first) / (moments[last] - moments[first])


def tally_with_database(place: Place, books: Books, prefix: str) -> Tally:
    """Return the tally of messages of which not all were meant to be sent.

    Those received and those that the database calls delivered must be the same.
    """
    beginning = f"{prefix}-"
    found = select(message.c.idempotency_key).where(
        message.c.state == State.DELIVERED.value, message.c.idempotency_key.startswith(beginning)
    )
    with reaching(place.url) as engine, engine.connect() as connection:
        delivered = {identity for (identity,) in connection.execute(found)}
    received = {identity for identity, _ in books if identity.startswith(beginning)}
    return tally_of(sorted(delivered | received), books, len(delivered))


def wait_until_received(contestant: Contestant, count: int) -> None:
    """Return once the receiver has had `count` requests.

    Raises:
        BenchFailed: a part stopped meanwhile, or it takes too long.
    """
    place, receiver = contestant.place, contestant.place.receiver
    seconds = READY_SECONDS + count / 100
    place.stage.wait_until(lambda: receiver.count() >= count, seconds, f"{count} messages received")


def halt(contestant: Contestant) -> None:
    """Pause the contestant and return once it has given back or recorded all it had in hand.

    Raises:
        BenchFailed: a part stopped meanwhile, or it takes too long.
    """
    contestant.pause()
    quiet_since = time.monotonic()

    def is_quiet() -> bool:
        nonlocal quiet_since
        if contestant.count(_IN_HAND):
            quiet_since = time.monotonic()
        return time.monotonic() - quiet_since >= QUIET_SECONDS

    contestant.place.stage.wait_until(is_quiet, READY_SECONDS, "nothing is being sent")
