"""The language of a search: one line, as people type it.

    SO-1001                     a number, a key or a term that is so, or else a piece of a text
    "no such article"           a piece of a request's or a reply's text
    state:dead -reason:expired  what must be so, and what must not
    order:SO-1001 after:2h reply:"not found"

All that is given must hold. Of several values for one property of a message, such as its state, one must.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from config.values import duration
from orderflow_outbox import State
from orderflow_outbox.errors import OutboxError, shown
from orderflow_outbox.states import RELEASED
from worker.verdicts import VERDICT_WORDS

MAX_LINE_CHARACTERS = 2000
MAX_CONDITIONS = 30
SHORTEST_TEXT = 3
"""Pieces of text are found by three characters at a time: a shorter piece is in nearly everything."""
LARGEST_ID = 2**63 - 1
FIRST_YEAR, YEARS_END = 1970, 9000
"""Between these are the moments that can be asked for."""

WORD, TEXT, REQUEST, REPLY = "word", "text", "request", "reply"
ID, REPLAY_OF, AFTER, BEFORE, IN = "id", "replay-of", "after", "before", "in"
TEXTS = (TEXT, REQUEST, REPLY)
TERMS = {"key": "key", "order": "orderNumber", "sku": "sku", "reference": "externalReference"}
"""By the name that people type, the term's own, which is understood too."""
PROPERTIES = (
    *("state", "operation", "destination", "channel", "organisation"),
    *("verdict", "reason", "status"),
)
"""Each message has one of each at most: the last three are of its last attempt, or of its dead letter."""
VERDICTS = (*VERDICT_WORDS, RELEASED, "rescued")
NAMES = (ID, *TERMS, *PROPERTIES, REPLAY_OF, AFTER, BEFORE, IN, *TEXTS)

_ALIASES = {own.lower(): name for name, own in TERMS.items()}
_NOT_NEGATED = (ID, REPLAY_OF, AFTER, BEFORE)
_NAMED = re.compile(r"([A-Za-z][A-Za-z-]*):")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r"\S+")
_NUMBER = re.compile(r"[0-9]{1,19}")
_STATUS = re.compile(r"[1-5](?:[0-9][0-9]|xx)")


class QueryProblem(OutboxError):
    """A line that cannot be searched by as it stands: names the word, the value, and the fix."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that must be so.

    Attributes:
        name: one of NAMES, or WORD for what was typed without one.
        negated: whether it must not be so.
    """

    name: str
    value: str
    negated: bool = False

    def __str__(self) -> str:
        minus = "-" if self.negated else ""
        if self.name == WORD:
            return minus + self.value
        if self.name == TEXT:
            return minus + _in_quotes(self.value)
        plain = _BARE.fullmatch(self.value) and not self.value.startswith('"')
        return f"{minus}{self.name}:{self.value if plain else _in_quotes(self.value)}"


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for: everything in it must hold. Printed and parsed again it is the same.

    Attributes:
        texts: whether a word that is no number, key or term may be a piece of text.
    """

    conditions: tuple[Condition, ...] = ()
    texts: bool = True

    def __str__(self) -> str:
        return " ".join(map(str, self.conditions))

    def of(self, *names: str) -> tuple[Condition, ...]:
        """Return the conditions of these names."""
        return tuple(each for each in self.conditions if each.name in names)

    def at(self, now: datetime) -> Query:
        """Return the same with every span of time, such as `after:2h`, made the moment that it means now."""
        fixed = (
            replace(each, value=moment_of(each.value, now).isoformat())
            if each.name in (AFTER, BEFORE)
            else each
            for each in self.conditions
        )
        return replace(self, conditions=tuple(fixed))

    def without_texts(self) -> Query:
        """Return the same for who may not know what is in messages: no piece of text is looked for.

        Raises:
            QueryProblem: it asks for one.
        """
        for each in self.of(*TEXTS):
            raise QueryProblem(
                f"{shown(str(each))} is a piece of text, which operators alone may search by: "
                "ask by a number, a key, order:, sku:, reference:, or by what became of the message"
            )
        return replace(self, texts=False)


def parse(line: str) -> Query:
    """Return what a line asks for; an empty one asks for everything.

    Raises:
        QueryProblem: it cannot be understood.
    """
    if len(line) > MAX_LINE_CHARACTERS:
        raise QueryProblem(f"the search has {len(line)} characters: write at most {MAX_LINE_CHARACTERS}")
    if "\0" in line:
        raise QueryProblem("the search has a NUL in it: leave it out, no text has one")
    query = Query(tuple(_conditions(line)))
    if len(query.conditions) > MAX_CONDITIONS:
        raise QueryProblem(f"the search has {len(query.conditions)} words: write at most {MAX_CONDITIONS}")
    return query


def moment_of(value: str, now: datetime) -> datetime:
    """Return the moment that `2h` (ago), `7d` or `2026-11-01T09:30` means; without a zone it is UTC.

    Raises:
        ValueError: it is neither.
    """
    try:
        span: timedelta = duration(value)
    except ValueError:
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return now - span


def number_of(value: str) -> int | None:
    """Return the number of a message that a word may be."""
    number = int(value) if _NUMBER.fullmatch(value) else 0
    return number if 0 < number <= LARGEST_ID else None


def _conditions(line: str) -> Iterator[Condition]:
    at = 0
    while at < len(line):
        if line[at].isspace():
            at += 1
            continue
        negated = line[at] == "-"
        at += negated
        named = _NAMED.match(line, at)
        name = _known(named[1], line[at:]) if named else None
        at = named.end() if named else at
        value, at, quoted = _value(line, at)
        if not value:
            raise QueryProblem(_nothing_after(named[0] if named else '"' if quoted else "-"))
        yield _checked(name or (TEXT if quoted else WORD), value, negated)


def _value(line: str, at: int) -> tuple[str, int, bool]:
    """Return the value that begins there, where it ends, and whether it stood in quotes."""
    if line.startswith('"', at):
        quoted = _QUOTED.match(line, at)
        if quoted is None:
            raise QueryProblem(f'{shown(line[at:])} has no end: close it with "; inside write \\" for one')
        return re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL), quoted.end(), True
    bare = _BARE.match(line, at)
    return (bare[0], bare.end(), False) if bare else ("", at, False)


def _known(name: str, rest: str) -> str:
    lower = name.lower()
    if lower in NAMES:
        return lower
    if lower in _ALIASES:
        return _ALIASES[lower]
    word = _BARE.match(rest)
    raise QueryProblem(
        f"there is no {name}: to search by: choose one of {', '.join(f'{each}:' for each in NAMES)}; "
        f'or write "{word[0] if word else rest}" in quotes for a piece of text'
    )


def _nothing_after(sign: str) -> str:
    if sign == '"':
        return 'there is nothing in "": write at least three characters of a text'
    return f"there is nothing after {sign} write what it must{' not' * (sign == '-')} be right behind it"


def _checked(name: str, value: str, negated: bool) -> Condition:
    if negated and name in _NOT_NEGATED:
        raise QueryProblem(f"-{name}:{shown(value)} cannot be asked: leave the - out")
    if name in TEXTS and len(value) < SHORTEST_TEXT:
        raise QueryProblem(
            f"{shown(value)} is too short a piece of text: write at least {SHORTEST_TEXT} characters"
        )
    if name in _CHECKS:
        holds, fix = _CHECKS[name]
        value = value if name in (AFTER, BEFORE) else value.lower()
        if not holds(value):
            raise QueryProblem(f"{name}: is {shown(value)}: {fix}")
    return Condition(name, value, negated)


def _is_moment(value: str) -> bool:
    try:
        moment = moment_of(value, datetime.now(UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return FIRST_YEAR <= moment.year < YEARS_END  # hours are added and taken away later on


def _in_quotes(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


_CHECKS: dict[str, tuple[Callable[[str], bool], str]] = {
    ID: (lambda value: number_of(value) is not None, "write the number of a message"),
    REPLAY_OF: (lambda value: number_of(value) is not None, "write the number of a message"),
    "state": (lambda value: value in list(State), f"choose one of {', '.join(State)}"),
    "verdict": (lambda value: value in VERDICTS, f"choose one of {', '.join(VERDICTS)}"),
    "status": (
        lambda value: bool(_STATUS.fullmatch(value)),
        "write a status such as 503, or 5xx for all of them",
    ),
    IN: (lambda value: value == "dead", "write in:dead, for messages whose dead letter is open"),
    AFTER: (_is_moment, 'write "2h", "7d" or 2026-11-01T09:30'),
    BEFORE: (_is_moment, 'write "2h", "7d" or 2026-11-01T09:30'),
}
