"""What a search found, with the pieces of text that were looked for."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from worker.personal_data import PersonalData
from worker.personal_views import masked_row, values_of
from worker.store.finding import Row
from worker.store.indexing import Lag, lag
from worker.store.searching import SECONDS, Found, beginnings, search
from worker.store.seeking import Texted
from worker.store.transactions import Store, Transaction

from .language import LARGEST_ID, Query
from .texts import Excerpt, excerpt, text_of

NOTHING_PERSONAL = PersonalData(())
NO_TEXTS = "texts are not indexed, as search.texts says: no piece of text finds what came since"


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that was found.

    Attributes:
        row: the message's, with `verdict`, `reason` and `status` of its last attempt, and its `letter`.
        excerpt: the text that was searched for; None where none was, or it is not among the first replies,
            or it is masked.
    """

    row: Row
    excerpt: Excerpt | None


@dataclass(frozen=True, slots=True)
class Results:
    """What a search found.

    Attributes:
        hits: the latest first.
        before: the number to search on below; None where there is nothing more.
        out_of_time: whether it ended for that.
        is_by_text: whether any piece of text was looked for.
        seconds: how long it took.
        lag: what could not be found yet.
        now: the moment at which all this was so.
    """

    hits: Sequence[Hit]
    before: int | None
    out_of_time: bool
    is_by_text: bool
    seconds: float
    lag: Lag
    now: datetime


def find(
    store: Store,
    query: Query,
    limit: int,
    before: int = LARGEST_ID,
    seconds: float = SECONDS,
    personal: PersonalData = NOTHING_PERSONAL,
) -> Results:
    """Search for the latest messages that a query means.

    Args:
        limit: how many at most.
        before: of these, those with a number below this one.
        seconds: how long it may take.
        personal: what is masked in rows and excerpts.

    Raises:
        NoTextIndex: a text is searched for, and there is no index of texts.
    """
    begun = time.monotonic()
    with store.reading() as transaction:
        found = search(transaction, query, limit, before, seconds)
    took = time.monotonic() - begun
    with store.reading() as transaction:  # another: one that ran out of time has ended
        hits = [_hit(transaction, row, found, personal) for row in found.rows]
        behind = lag(transaction)
    rest = None if found.is_all else found.searched_down_to
    return Results(hits, rest, found.out_of_time, found.is_by_text, took, behind, transaction.now)


def _hit(transaction: Transaction, row: Row, found: Found, personal: PersonalData) -> Hit:
    values = values_of(transaction, row["id"], personal) if personal else frozenset()
    piece = _excerpt(transaction, row["id"], found, personal, values)
    return Hit(masked_row(row, personal, values), piece)


def _excerpt(
    transaction: Transaction,
    message_id: int,
    found: Found,
    personal: PersonalData,
    values: Collection[str],
) -> Excerpt | None:
    if not found.pieces:
        return None
    for n, beginning in beginnings(transaction, message_id):
        text = text_of(personal.masked(beginning, values))
        for each in found.pieces:
            if _is_within(n, each) and (piece := excerpt(n, text, each.wanted)):
                return piece
    return None


def _is_within(n: int, piece: Texted) -> bool:
    first, last = piece.places
    return first <= n <= last
