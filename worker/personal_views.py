"""What people are shown of messages, with everything masked that is known of a person."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from .personal_data import PersonalData
from .store.erasing import documents_of
from .store.finding import Life, Row
from .store.surveying import Group
from .store.transactions import Transaction


def masked_life(life: Life, personal: PersonalData) -> Life:
    """Return a message's life with every personal value masked, wherever it is repeated."""
    replies = [row["reply_body"] for row in life.attempts]
    found = [personal.values_of(document) for document in (life.body["payload"], *replies)]
    values = personal.values_of_query(life.body["query"]).union(*found)

    def rows(some: Sequence[Row]) -> list[Row]:
        return [masked_row(row, personal, values) for row in some]

    return replace(
        life,
        message=masked_row(life.message, personal, values),
        body={
            **masked_row(life.body, personal, values),
            "query": personal.parameters(life.body["query"], values),
        },
        attempts=rows(life.attempts),
        items=rows(life.items),
        dead_letter=None if life.dead_letter is None else masked_row(life.dead_letter, personal, values),
        audit=rows(life.audit),
        difference=life.difference and personal.text(life.difference, values),
        difference_of_replay=life.difference_of_replay and personal.text(life.difference_of_replay, values),
    )


def masked_letters(transaction: Transaction, letters: Sequence[Row], personal: PersonalData) -> Sequence[Row]:
    """Return dead letters with every personal value masked that their messages or replies hold."""
    return _masked_by_message(transaction, letters, "message_id", personal)


def masked_groups(
    transaction: Transaction, groups: Sequence[Group], personal: PersonalData
) -> Sequence[Group]:
    """Return groups of dead letters with every personal value masked in the text of the one that is told."""
    if not personal:
        return groups
    return [
        replace(each, text=personal.text(each.text, values_of(transaction, each.example, personal)))
        for each in groups
    ]


def masked_incidents(
    transaction: Transaction, incidents: Sequence[Row], personal: PersonalData
) -> Sequence[Row]:
    """Return incidents with every personal value masked that the message holds which they tell of."""
    return _masked_by_message(transaction, incidents, "sample_message_id", personal)


def masked_examples(
    transaction: Transaction, examples: Sequence[tuple[int, str]], personal: PersonalData
) -> Sequence[tuple[int, str]]:
    """Return what is said of messages, by number, with every personal value masked that they hold."""
    if not personal:
        return examples
    return [
        (number, text and personal.text(text, values_of(transaction, number, personal)))
        for number, text in examples
    ]


def masked_members(transaction: Transaction, members: Sequence[Row], personal: PersonalData) -> Sequence[Row]:
    """Return members of a replay run with every personal value masked in what is said of them."""
    said = [row for row in members if row["said"] is not None]
    masked = {row["message_id"]: row for row in _masked_by_message(transaction, said, "message_id", personal)}
    return [masked.get(row["message_id"], row) for row in members]


def masked_audit(transaction: Transaction, audit: Sequence[Row], personal: PersonalData) -> Sequence[Row]:
    """Return what people did with every personal value masked that the messages hold which they did it to."""
    return _masked_by_message(transaction, audit, "message_id", personal)


def values_of(transaction: Transaction, message_id: int, personal: PersonalData) -> frozenset[str]:
    """Return the values of personal fields in what a message said and was answered, as far as it is kept."""
    own, replies = documents_of(transaction, message_id)
    if own is None:
        return frozenset()
    found = [personal.values_of(document) for document in (own["payload"], *replies)]
    return personal.values_of_query(own["query"]).union(*found)


def _masked_by_message(
    transaction: Transaction, rows: Sequence[Row], column: str, personal: PersonalData
) -> Sequence[Row]:
    if not personal:
        return rows
    masked = []
    for row in rows:
        number = row[column]
        values = frozenset() if number is None else values_of(transaction, number, personal)
        masked.append(masked_row(row, personal, values))
    return masked


_NOT_TOLD = ("fingerprint", "sha256")
"""Digests, which are no text."""
_NAMES = (
    "state",
    "verdict",
    "resolution",
    "reason",
    "rule",
    "operation",
    "destination",
    "verb",
    "checked_by",
)
"""Columns that hold the service's own words."""


def masked_row(row: Row, personal: PersonalData, values: Collection[str]) -> Row:
    """Return a row without personal values.

    Args:
        values: those of the message that it is of.
    """
    kept = (*_NOT_TOLD, *_NAMES)
    return {name: value if name in kept else _masked(value, personal, values) for name, value in row.items()}


def _masked(value: Any, personal: PersonalData, values: Collection[str]) -> Any:
    """Return a value of a column, or of JSON in one, without what is personal."""
    if isinstance(value, bytes):
        return personal.masked(value, values)
    if isinstance(value, str):
        return personal.text(value, values)
    if isinstance(value, dict):
        return {name: _masked(each, personal, values) for name, each in value.items()}
    if isinstance(value, list):
        return [_masked(each, personal, values) for each in value]
    return value
