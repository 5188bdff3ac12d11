"""A search as fields to fill in: each stands for one condition of the line, which they write."""

from __future__ import annotations

from collections.abc import Mapping

from .language import AFTER, BEFORE, TEXT, WORD, Condition, Query, parse

FIELDS = (WORD, TEXT, "state", "operation", "destination", "verdict", "reason", "status", AFTER, BEFORE)


def fields_of(query: Query) -> dict[str, str]:
    """Return what stands in each field: nothing where a line asks for more than a field can say."""
    return {name: _only_value(query.of(name)) for name in FIELDS}


def with_fields(query: Query, filled_in: Mapping[str, str]) -> Query:
    """Return a query in which the fields say what they do now; all else in it stays.

    Raises:
        QueryProblem: what stands in a field cannot be.
    """
    before = fields_of(query)
    kept = [each for each in query.conditions if not before.get(each.name)]
    said = {name: _said(filled_in.get(name, ""), before[name]) for name in FIELDS}
    written = (Condition(name, value) for name, value in said.items() if value)
    return parse(" ".join(map(str, (*kept, *written))))


def _said(value: str, before: str) -> str:
    """Return what was filled in, without the blanks around it that come along with what is pasted."""
    return value if value == before else value.strip()


def _only_value(conditions: tuple[Condition, ...]) -> str:
    if len(conditions) == 1 and not conditions[0].negated:
        return conditions[0].value
    return ""
