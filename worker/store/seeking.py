"""Ways to the messages that may be searched for: their numbers, the latest first, some at a time.

A search goes one way and asks of each message there whether the rest holds, too. So whatever is combined
costs what the best way costs, and no planner has to be right about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select, text

from orderflow_outbox import State
from orderflow_outbox.tables import PLACES, dead_letter, full_text, message, term, unindexed
from orderflow_outbox.terms import SEPARATOR, pairs_of

from . import text_index
from .burying import is_open
from .claiming import is_due, is_parked, is_sending
from .transactions import Transaction

AT_ONCE = 1000
"""Numbers of one step."""
NEWEST_TEXTS = 4000
"""So many of the latest texts PostgreSQL looks through before it asks the index: what is common is found
there at once, where the index would have to gather all of it."""
MOST_OF_THE_INDEX = 200_000
"""So many texts PostgreSQL gathers from the index at once."""
FEW = 20_000
"""So many numbers are gathered at once; where there are more, most of the latest messages are of these."""
WAITING_LOOKED_AT = 20_000
"""So many of the latest messages are searched by their terms while these are not indexed yet."""

HIGHEST = 2**63 // PLACES - 1
"""The highest number that has places."""

Step = Sequence[int]
"""Numbers in descending order; none where a step found none and the next one may."""

_MATCHING = text(
    f"SELECT rowid FROM {text_index.NAME} WHERE {text_index.NAME} MATCH :phrase"  # noqa: S608 (our own name)
    " AND rowid < :below ORDER BY rowid DESC LIMIT :most"
)


@dataclass(frozen=True, slots=True)
class Numbered:
    """Those of given numbers."""

    ids: Sequence[int]

    def steps(self, transaction: Transaction, below: int) -> Iterator[Step]:
        """Yield the numbers below one."""
        del transaction
        yield sorted((each for each in set(self.ids) if each < below), reverse=True)


@dataclass(frozen=True, slots=True)
class Termed:
    """Those that have a term of one of these names, and those of given numbers besides."""

    names: Sequence[str]
    value: str
    ids: Sequence[int] = ()

    def steps(self, transaction: Transaction, below: int) -> Iterator[Step]:
        """Yield the numbers below one."""
        waiting = {each for each in self._waiting(transaction) if each < below}
        others = waiting.union(each for each in self.ids if each < below)
        while True:
            found = self._indexed(transaction, below, AT_ONCE)
            lowest = found[-1] if len(found) == AT_ONCE else 0
            here = {each for each in others if each > lowest}
            others -= here
            yield sorted(here.union(found), reverse=True)
            if not lowest:
                return
            below = lowest

    def is_any(self, transaction: Transaction) -> bool:
        """Tell whether there is any such message."""
        return bool(self._indexed(transaction, 2**63 - 1, 1) or self._waiting(transaction))

    def _indexed(self, transaction: Transaction, below: int, most: int) -> list[int]:
        # By each name for itself, so that each is read from the index in order.
        found: set[int] = set()
        for name in self.names:
            statement = select(term.c.message_id).where(
                term.c.name == name, term.c.value == self.value, term.c.message_id < below
            )
            rows = transaction.connection.scalars(statement.order_by(term.c.message_id.desc()).limit(most))
            found.update(rows)
        return sorted(found, reverse=True)[:most]

    def _waiting(self, transaction: Transaction) -> list[int]:
        """Return those whose terms the shop has left and the service has not indexed."""
        latest = select(unindexed).order_by(unindexed.c.message_id.desc()).limit(WAITING_LOOKED_AT).subquery()
        place = func.strpos if is_postgresql(transaction) else func.instr
        statement = select(latest).where(place(latest.c.terms, f"{SEPARATOR}{self.value}") > 0)
        wanted = {(name, self.value) for name in self.names}
        rows = transaction.connection.execute(statement)
        return [row.message_id for row in rows if wanted.intersection(pairs_of(row.terms))]


IN_STATE: Mapping[str, Sequence[Select[Any]]] = {
    State.DEAD: [select(dead_letter.c.message_id)],
    State.SENDING: [select(message.c.id).where(is_sending)],
    State.PENDING: [select(message.c.id).where(each) for each in (is_due, is_parked)],
}
"""By state, what gives the numbers of its messages, where an index knows them."""
WITH_OPEN_LETTER = [select(dead_letter.c.message_id).where(is_open)]


def few(transaction: Transaction, statements: Sequence[Select[Any]]) -> Numbered | None:
    """Return the way to those that statements give, where they are few; None where they are many."""
    ids: list[int] = []
    for each in statements:
        ids += transaction.connection.scalars(each.limit(FEW + 1 - len(ids)))
    return Numbered(ids) if len(ids) <= FEW else None


@dataclass(frozen=True, slots=True)
class Texted:
    """Those with a piece of text in their request or replies.

    Attributes:
        wanted: the piece, folded as the texts are.
        places: the first and last of a message's places that it may stand at.
    """

    wanted: str
    places: tuple[int, int]

    def steps(self, transaction: Transaction, below: int) -> Iterator[Step]:
        """Yield the numbers below one."""
        below = min(below, HIGHEST)
        if not is_postgresql(transaction):
            yield from self._by_fts(transaction, below)
            return
        step, below = self._newest(transaction, below)
        yield step
        while below:
            step = self._by_trigrams(transaction, below)
            yield from (step[at : at + AT_ONCE] for at in range(0, len(step), AT_ONCE))
            below = step[-1] if len(step) == MOST_OF_THE_INDEX else 0

    def holds(self, transaction: Transaction) -> ColumnElement[bool]:
        """Return the condition that a message is one of them."""
        # Not LIKE: once for each message, PostgreSQL might ask the index for everything that is so.
        first, last = (message.c.id * PLACES + each for each in self.places)
        return (
            select(full_text.c.place)
            .where(full_text.c.place.between(first, last), self._is_in(transaction, full_text.c.text))
            .exists()
        )

    def _is_in(self, transaction: Transaction, column: ColumnElement[str]) -> ColumnElement[bool]:
        return (func.strpos if is_postgresql(transaction) else func.instr)(column, self.wanted) > 0

    def _is_here(self, place: ColumnElement[int]) -> ColumnElement[bool]:
        first, last = self.places
        return (place % PLACES).between(first, last)

    def _newest(self, transaction: Transaction, below: int) -> tuple[Step, int]:
        """Return those among the latest texts, and the number below which the rest is; 0 for none."""
        latest = (
            select(full_text.c.place, full_text.c.text)
            .where(full_text.c.place < below * PLACES)
            .order_by(full_text.c.place.desc())
            .limit(NEWEST_TEXTS)
            .subquery()
        )
        looked_at = select(func.count(), func.min(latest.c.place)).select_from(latest)
        number, lowest = transaction.connection.execute(looked_at).one()
        is_here = self._is_here(latest.c.place)
        matching = select(latest.c.place).where(self._is_in(transaction, latest.c.text), is_here)
        found = {each // PLACES for each in transaction.connection.scalars(matching)}
        return sorted(found, reverse=True), lowest // PLACES + 1 if number == NEWEST_TEXTS else 0

    def _by_trigrams(self, transaction: Transaction, below: int) -> Step:
        # By itself, so that nothing but the index of trigrams can be thought of.
        found = (
            select(full_text.c.place)
            .where(full_text.c.text.contains(self.wanted, autoescape=True))
            .cte("found")
            .prefix_with("MATERIALIZED")
        )
        number = found.c.place // PLACES
        statement = (
            select(number).distinct().where(found.c.place < below * PLACES, self._is_here(found.c.place))
        )
        ordered = statement.order_by(number.desc()).limit(MOST_OF_THE_INDEX)
        return [int(each) for each in transaction.connection.scalars(ordered)]

    def _by_fts(self, transaction: Transaction, below: int) -> Iterator[Step]:
        phrase = '"' + self.wanted.replace('"', '""') + '"'
        first, last = self.places
        place = below * PLACES
        while True:
            values = {"phrase": phrase, "below": place, "most": AT_ONCE}
            places = list(transaction.connection.scalars(_MATCHING, values))
            found = {each // PLACES for each in places if first <= each % PLACES <= last}
            yield sorted(found, reverse=True)
            if len(places) < AT_ONCE:
                return
            # A message whose texts are on both sides of a step is met twice: whoever asks sees to that.
            place = places[-1]


Way = Numbered | Termed | Texted


def is_postgresql(transaction: Transaction) -> bool:
    """Tell which of the two databases it is."""
    return transaction.connection.dialect.name == "postgresql"
