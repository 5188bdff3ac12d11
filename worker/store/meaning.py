"""What a query means: what must hold of a message, in SQL, and the ways that lead to such messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, not_, or_, select

from orderflow_outbox.tables import PLACES, attempt, dead_letter, message, term
from worker.search.language import (
    AFTER,
    BEFORE,
    ID,
    IN,
    PROPERTIES,
    REPLAY_OF,
    REPLY,
    REQUEST,
    SHORTEST_TEXT,
    TERMS,
    TEXTS,
    WORD,
    Condition,
    Query,
    QueryProblem,
    moment_of,
    number_of,
)
from worker.search.texts import folded

from . import text_index
from .burying import is_open
from .seeking import IN_STATE, WITH_OPEN_LETTER, Numbered, Termed, Texted, Way, few
from .transactions import Transaction

_PLACES_OF = {REQUEST: (0, 0), REPLY: (1, PLACES - 1)}
_ANYWHERE = (0, PLACES - 1)

_last = attempt.alias("last")
_its_last = (
    select(func.max(attempt.c.n))
    .where(attempt.c.message_id == message.c.id)
    .correlate(message)
    .scalar_subquery()
)
_reason = func.coalesce(dead_letter.c.reason, _last.c.reason)
_of_messages = tuple(
    message.c[name]
    for name in (
        *("id", "created_at", "finished_at", "operation", "destination", "channel", "organisation", "key"),
        *("state", "attempts", "replay_of", "idempotency_key"),
    )
)
shown = (
    select(
        *_of_messages,
        _last.c.verdict,
        _reason.label("reason"),
        _last.c.status,
        dead_letter.c.resolution.label("letter"),
    )
    .select_from(message)
    .outerjoin(_last, (_last.c.message_id == message.c.id) & (_last.c.n == _its_last))
    .outerjoin(dead_letter, dead_letter.c.message_id == message.c.id)
    .order_by(message.c.id.desc())
)
_COLUMNS: dict[str, ColumnElement[Any]] = {
    **{name: message.c[name] for name in PROPERTIES if name in message.c},
    "verdict": _last.c.verdict,
    "reason": _reason,
    "status": _last.c.status,
}


class NoTextIndex(QueryProblem):
    """A text is searched for, and this database has no index of texts."""


class Meaning:
    """What must hold of each message that a query means.

    Attributes:
        filters: the conditions, by what they are of.
        ways: to some more messages than are meant, by the condition that need not be asked for there.
        pieces: the texts that are searched for.
        is_by_text: whether any text is, be it one that must not be there.

    Raises:
        NoTextIndex: a text is searched for, and there is no index of texts.
    """

    def __init__(self, transaction: Transaction, query: Query) -> None:
        self._transaction = transaction
        self._texts = query.texts
        self.filters: dict[Condition | str, ColumnElement[bool]] = {}
        self.ways: dict[Condition, Way] = {}
        self.pieces: list[Texted] = []
        self.is_by_text = False
        for each in query.conditions:
            self._add(each)
        self._add_properties(query)

    def _add(self, condition: Condition) -> None:
        name, value = condition.name, condition.value
        if name == WORD:
            self._add_word(condition)
        elif name in TEXTS:
            self._add_text(condition, _PLACES_OF.get(name, _ANYWHERE))
        elif name in TERMS:
            self._add_term(condition, Termed([TERMS[name]], value))
        elif name == ID:
            self.ways[condition] = Numbered([int(value)])
            self.filters[condition] = message.c.id == int(value)
        elif name == REPLAY_OF:
            self.ways[condition] = Numbered(self._replays_of(int(value)))
            self.filters[condition] = message.c.replay_of == int(value)
        elif name == IN:
            self.filters[condition] = _unless(condition, is_open, dead_letter.c.message_id)
            if not condition.negated and (letters := few(self._transaction, WITH_OPEN_LETTER)):
                self.ways[condition] = letters
        elif name in (AFTER, BEFORE):
            moment = moment_of(value, self._transaction.now)
            created = message.c.created_at
            self.filters[condition] = created >= moment if name == AFTER else created < moment

    def _add_word(self, condition: Condition) -> None:
        """Take a word for a number, a key or a term, if there is such a message; else for a piece of text."""
        number = number_of(condition.value)
        ids = [] if number is None else self._existing(number)
        termed = Termed(list(TERMS.values()), condition.value, ids)
        if ids or termed.is_any(self._transaction):
            self._add_term(condition, termed)
        elif self._texts and len(condition.value) >= SHORTEST_TEXT:
            self._add_text(condition, _ANYWHERE)
        elif not condition.negated:
            self.ways[condition] = Numbered([])

    def _add_term(self, condition: Condition, termed: Termed) -> None:
        has = (
            select(term.c.message_id)
            .where(term.c.name.in_(termed.names), term.c.value == termed.value)
            .where(term.c.message_id == message.c.id)
            .exists()
        )
        self.filters[condition] = _unless(condition, or_(has, message.c.id.in_(termed.ids)))
        if not condition.negated:
            self.ways[condition] = termed

    def _add_text(self, condition: Condition, places: tuple[int, int]) -> None:
        if not text_index.is_there(self._transaction):
            fix = text_index.fix_on(self._transaction)
            raise NoTextIndex(f"texts cannot be searched in this database: {fix}")
        self.is_by_text = True
        texted = Texted(folded(condition.value), places)
        self.filters[condition] = _unless(condition, texted.holds(self._transaction))
        if not condition.negated:
            self.ways[condition] = texted
            self.pieces.append(texted)

    def _add_properties(self, query: Query) -> None:
        """Add what messages have one of each: one of several values must be so, and none that must not."""
        for name, column in _COLUMNS.items():
            given = query.of(name)
            wanted = [_is(column, each.value) for each in given if not each.negated]
            if wanted:
                self.filters[name] = or_(*wanted)
            for each in given:
                if each.negated:
                    self.filters[each] = _unless(each, _is(column, each.value), column)
        states = [each for each in query.of("state") if not each.negated]
        if states and all(each.value in IN_STATE for each in states):
            statements = [statement for each in states for statement in IN_STATE[each.value]]
            if (numbered := few(self._transaction, statements)) is not None:
                self.ways[states[0]] = numbered

    def _existing(self, number: int) -> Sequence[int]:
        return self._transaction.connection.scalars(select(message.c.id).where(message.c.id == number)).all()

    def _replays_of(self, number: int) -> Sequence[int]:
        replays = select(message.c.id).where(message.c.replay_of == number, message.c.replay_of.is_not(None))
        return self._transaction.connection.scalars(replays).all()


def _is(column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    if column is not _COLUMNS["status"]:
        return column == value
    lowest = int(value.replace("x", "0"))
    return column.between(lowest, lowest + 99 if value.endswith("xx") else lowest)


def _unless(
    condition: Condition, holds: ColumnElement[bool], known: ColumnElement[Any] | None = None
) -> ColumnElement[bool]:
    """Return the condition, or its contrary where it is negated, which holds where nothing is known, too."""
    if not condition.negated:
        return holds
    return not_(holds) if known is None else or_(known.is_(None), not_(holds))
