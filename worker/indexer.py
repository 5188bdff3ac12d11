"""The indexer: makes what a message is found by, which neither the shop nor a delivery has the time for.

Idempotent, so that every engine may run it at once: each takes other messages. Terms and texts take
turns, or a steady flow of the ones would keep the others waiting: texts take ten times as long.
"""

from __future__ import annotations

from .store.indexing import has_unindexed, has_unindexed_texts, index, index_texts
from .store.transactions import Store

INDEX_SECONDS = 1.0
"""From the last batch, which was not a full one, to the next."""
SHARE_WHILE_BUSY = 0.03
"""The share of time that indexing may take while messages are in hand; with none it goes on to the end."""


def index_some(store: Store, with_texts: bool = True) -> bool:
    """Index a bounded batch of messages and one of texts; return whether there may be more.

    A read comes first: an idle engine never asks for the write lock.

    Args:
        with_texts: False gives up the texts that wait.
    """
    more = False
    with store.reading() as look:
        terms, texts = has_unindexed(look), has_unindexed_texts(look)
    if terms:
        with store.writing() as transaction:
            more = index(transaction)
    if terms or texts:
        with store.writing() as transaction:
            more |= index_texts(transaction, with_texts)
    return more


def pause_after(seconds: float, *, more: bool, busy: bool) -> float:
    """Return how long to wait until the next batch, in seconds.

    Args:
        seconds: how long the last one took.
        more: whether there may be more.
        busy: whether messages are in hand, for which the indexer makes room.
    """
    yielding = seconds / SHARE_WHILE_BUSY if busy else 0.0
    return yielding if more else max(yielding, INDEX_SECONDS)
