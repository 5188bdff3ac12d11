"""Searching the transaction log: the latest messages first of which all that is asked for holds."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, func, select
from sqlalchemy.exc import DBAPIError

from orderflow_outbox.tables import attempt, body, message
from worker.search.language import AFTER, BEFORE, LARGEST_ID, Query, moment_of
from worker.search.texts import MAX_TEXT_BYTES

from .given import IDS, is_given
from .meaning import Meaning, shown
from .seeking import AT_ONCE, Numbered, Texted, Way, is_postgresql
from .transactions import Transaction, deadline_of, set_deadline

MOST = 1000
"""Messages of one search."""
SECONDS = 5.0
"""How long a search may take before it says how far it came."""
SKEW = timedelta(hours=1)
"""By so much the moments at which messages were enqueued may be out of the order of their numbers."""
MOST_REPLIES = 100
"""Replies of one message that an excerpt is looked for in."""
LONGER_THAN_TEXTS = 5000
"""A way of so many messages or more is gone only where no text leads anywhere."""
WALKED_AT_ONCE = 5000
LOOKED_AT_EVERY = 20_000
"""Steps of SQLite's machine between two looks at the clock."""

_CANCELED = "57014"  # PostgreSQL's code


@dataclass(slots=True)
class Found:
    """What a search found.

    Attributes:
        rows: the messages, the latest first.
        searched_down_to: the number above which everything was searched.
        is_all: whether there is nothing below that.
        out_of_time: whether it ended for that.
        pieces: what of the texts was searched for, with the first and last place of it.
        is_by_text: whether any text was, be it one that must not be there.
    """

    rows: list[RowMapping] = field(default_factory=list)
    searched_down_to: int = LARGEST_ID
    is_all: bool = False
    out_of_time: bool = False
    pieces: list[Texted] = field(default_factory=list)
    is_by_text: bool = False


def search(
    transaction: Transaction, query: Query, limit: int, before: int = LARGEST_ID, seconds: float = SECONDS
) -> Found:
    """Return the latest messages that a query means, of those with a number below `before`.

    A transaction that ran out of time can be used no further.

    Args:
        limit: how many, at most `MOST`.
        seconds: how long it may take, twice that at the very most.

    Raises:
        NoTextIndex: a text is searched for, and there is no index of texts.
    """
    found = Found(searched_down_to=before)
    with _bounded(transaction, seconds) as deadline:
        try:
            _Search(transaction, query, found, limit, deadline).run()
        except DBAPIError as error:
            if not _is_interruption(error):
                raise
            found.out_of_time = True
    return found


def beginnings(transaction: Transaction, message_id: int) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the beginning of each body of a message: 0 and its request, then the replies.

    Where these are many it is the first of them.
    """
    connection = transaction.connection
    request = select(func.substr(body.c.payload, 1, MAX_TEXT_BYTES)).where(body.c.message_id == message_id)
    yield 0, connection.scalar(request) or b""
    replies = (
        select(attempt.c.n, func.substr(attempt.c.reply_body, 1, MAX_TEXT_BYTES))
        .where(attempt.c.message_id == message_id, attempt.c.reply_body.is_not(None))
        .order_by(attempt.c.n)
        .limit(MOST_REPLIES)
    )
    yield from ((n, beginning) for n, beginning in connection.execute(replies))


class _Search:
    """One search: the conditions it has, the way it goes, and what it has found so far."""

    def __init__(
        self, transaction: Transaction, query: Query, found: Found, limit: int, deadline: float
    ) -> None:
        self._transaction = transaction
        self._now = transaction.now
        self._query = query
        self._found = found
        self._limit = limit
        self._deadline = deadline
        meaning = Meaning(transaction, query)
        self._filters, self._ways = meaning.filters, meaning.ways
        found.pieces += meaning.pieces
        found.is_by_text = meaning.is_by_text

    def run(self) -> None:
        """Search until there is enough, nothing more, or no more time."""
        low, below = self._span()
        way = self._best_way(below)
        steps = self._walk(below) if way is None else self._along(way, below)
        for rows, down_to in steps:
            room = self._limit - len(self._found.rows)
            self._found.rows += rows[:room]
            self._found.searched_down_to = self._found.rows[-1]["id"] if len(rows) >= room else down_to
            if len(rows) >= room:
                return
            if down_to <= low:
                break
            if time.monotonic() >= self._deadline:
                self._found.out_of_time = True
                return
        self._found.is_all = True

    # Which way to go.

    def _best_way(self, below: int) -> Way | None:
        """Return the shortest way, which what it leads to need not be asked for; None for everything."""
        lengths = {each: self._length(way, below) for each, way in self._ways.items()}
        if not lengths:
            return None
        chosen = min(lengths, key=lambda each: lengths[each])
        if not isinstance(self._ways[chosen], Numbered):  # gathered a moment ago: it may have changed
            del self._filters[chosen]
        return self._ways[chosen]

    def _length(self, way: Way, below: int) -> float:
        """Return how many messages are on a way, as far as that is known without going it."""
        if isinstance(way, Texted):
            return LONGER_THAN_TEXTS - len(way.wanted)  # the longer a piece, the fewer have it
        number = len(next(iter(way.steps(self._transaction, below))))
        return number if number < AT_ONCE or isinstance(way, Numbered) else math.inf

    def _span(self) -> tuple[int, int]:
        """Return the numbers between which messages of the time that is asked for are."""
        low, below = 0, self._found.searched_down_to
        for each in self._query.of(AFTER):
            low = max(low, self._first_since(moment_of(each.value, self._now) - SKEW))
        for each in self._query.of(BEFORE):
            below = min(below, self._first_since(moment_of(each.value, self._now) + SKEW))
        if low:
            self._filters["low"] = message.c.id >= low
        return low, below

    def _first_since(self, moment: datetime) -> int:
        """Return the first number of messages enqueued since a moment, by halves: numbers follow the time."""
        # Each by itself: for both at once SQLite reads every message.
        ends = select(*(select(end(message.c.id)).scalar_subquery() for end in (func.min, func.max)))
        first, last = self._transaction.connection.execute(ends).one()
        low, middle, high = first or 0, first or 0, 0 if last is None else last + 1
        while low < high:
            following = select(message.c.id, message.c.created_at).where(message.c.id >= middle)
            row = self._transaction.connection.execute(
                following.order_by(message.c.id).limit(1)
            ).one_or_none()
            # None: the last ones were purged a moment ago.
            low, high = (row.id + 1, high) if row and row.created_at < moment else (low, middle)
            middle = (low + high) // 2
        return low

    # Going there.

    def _along(self, way: Way, below: int) -> Iterator[tuple[list[RowMapping], int]]:
        """Yield what is found at each step of a way, and the number above which all was looked at."""
        down_to = below
        for step in way.steps(self._transaction, below):
            for at in range(0, len(step), AT_ONCE):
                ids = [each for each in step[at : at + AT_ONCE] if each < down_to]
                if ids:
                    yield self._those(is_given(message.c.id), {IDS: ids}), ids[-1]
                    down_to = ids[-1]

    def _walk(self, below: int) -> Iterator[tuple[list[RowMapping], int]]:
        """Yield the same of all messages."""
        while True:
            numbers = select(message.c.id).where(message.c.id < below).order_by(message.c.id.desc())
            some = numbers.limit(WALKED_AT_ONCE).subquery()
            low = self._transaction.connection.scalar(select(func.min(some.c.id)))
            if low is None:
                return
            yield self._those((message.c.id >= low) & (message.c.id < below), {}), low
            below = low

    def _those(self, which: ColumnElement[bool], values: dict[str, Any]) -> list[RowMapping]:
        statement = shown.where(which, *self._filters.values()).limit(self._limit)
        return list(self._transaction.connection.execute(statement, values).mappings())


@contextmanager
def _bounded(transaction: Transaction, seconds: float) -> Iterator[float]:
    """Have each statement end when the time is over; yield that moment by the monotonic clock."""
    deadline = time.monotonic() + seconds
    if is_postgresql(transaction):
        bound = func.set_config("statement_timeout", f"{max(1, int(1000 * seconds))}ms", True)
        transaction.connection.execute(select(bound))
        yield deadline
        return
    outer = deadline_of(transaction.connection)
    ends = deadline if outer is None else min(deadline, outer)
    set_deadline(transaction.connection, ends, LOOKED_AT_EVERY)
    try:
        yield deadline
    finally:
        set_deadline(transaction.connection, outer)


def _is_interruption(error: DBAPIError) -> bool:
    if isinstance(error.orig, sqlite3.Error):
        return error.orig.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT
    return getattr(error.orig, "sqlstate", None) == _CANCELED
