"""Discarding many dead letters: those that were counted and no others, a batch at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from .by_hand import NotPossible, discard_one
from .store import letters
from .store.burying import close_settled_incidents
from .store.finding import Filter
from .store.transactions import Store, Transaction

BATCH = 50
"""Discarded in one transaction: on SQLite the shop waits meanwhile."""


@dataclass(frozen=True, slots=True)
class Counted:
    """How many open dead letters there were, and until when they had died."""

    number: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Discarded:
    """What was done.

    Attributes:
        number: how many letters were discarded.
        left: how many are open still of those that were counted.
    """

    number: int
    left: int


def count(store: Store, wanted: Filter) -> Counted:
    """Count the open dead letters wanted, before somebody is asked whether they are meant."""
    with store.reading() as transaction:
        return Counted(letters.number_of(transaction, wanted), transaction.now)


def discard_many(
    store: Store,
    wanted: Filter,
    counted: Counted,
    by: str,
    why: str,
    *,
    seconds: float,
    monotonic: Callable[[], float] = time.monotonic,
) -> Discarded:
    """Discard the letters that were counted, as far as time allows, and never more of them.

    What is done stays done, whatever comes after; whoever is asked again goes on with the rest.

    Args:
        wanted: which letters, as they were counted.
        seconds: after which no further batch is begun.
    """
    ends, number, last = monotonic() + seconds, 0, 0
    while True:
        limit = min(BATCH, counted.number - number)
        with store.writing() as transaction:
            ids = letters.numbers_of(transaction, wanted, counted.until, last, limit)
            for each in ids:
                number += _is_discarded(transaction, each, by, why)
            close_settled_incidents(transaction)
        if len(ids) < limit or number >= counted.number:
            return Discarded(number, 0)
        last = ids[-1]
        if monotonic() >= ends:
            with store.reading() as transaction:
                left = letters.number_of(transaction, wanted, counted.until)
            return Discarded(number, min(left, counted.number - number))


def _is_discarded(transaction: Transaction, message_id: int, by: str, why: str) -> bool:
    """Discard a letter; tell whether it was there to be."""
    try:
        discard_one(transaction, message_id, by, why)
    except NotPossible:
        # Somebody else has replayed or discarded it since the batch was read.
        return False
    return True
