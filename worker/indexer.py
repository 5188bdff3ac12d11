"""The indexer: makes the terms a message is found by, which the shop has no time for.

Cheap and idempotent, so that every engine may run it at once: each takes other messages.
"""

from __future__ import annotations

from .store.indexing import has_unindexed, index
from .store.transactions import Store

INDEX_SECONDS = 1.0
"""From the last batch, which was not a full one, to the next."""
SHARE_WHILE_BUSY = 0.02
"""The share of time that indexing may take while messages are in hand; with none it goes on to the end."""


def index_some(store: Store) -> bool:
    """Index a bounded batch of messages; return whether there may be more.

    A read comes first: an idle engine never asks for the write lock.
    """
    with store.reading() as look:
        if not has_unindexed(look):
            return False
    with store.writing() as transaction:
        return index(transaction)


def pause_after(seconds: float, *, more: bool, busy: bool) -> float:
    """Return how long to wait until the next batch, in seconds.

    Args:
        seconds: how long the last one took.
        more: whether there may be more.
        busy: whether messages are in hand, for which the indexer makes room.
    """
    yielding = seconds / SHARE_WHILE_BUSY if busy else 0.0
    return yielding if more else max(yielding, INDEX_SECONDS)
