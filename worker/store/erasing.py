"""Erasing what messages say of a person: documents, replies and texts go, times and verdicts stay."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    RowMapping,
    bindparam,
    case,
    delete,
    exists,
    null,
    or_,
    select,
    true,
    tuple_,
    update,
)

from orderflow_outbox.tables import (
    attempt,
    audit,
    body,
    dead_letter,
    edit,
    gate,
    incident,
    item,
    message,
    replay_run,
    term,
)

from .bulk import insert_many
from .given import is_given
from .indexing import forget
from .transactions import Transaction

ERASED = "erased"
"""What stands in place of a text; and the verb of the audit."""
PAGE = 200
"""Rows beside the messages that are looked at by one transaction, and written by one."""

_is_erased = exists().where(audit.c.message_id == message.c.id, audit.c.verb == ERASED)
_subject = (
    select(message, dead_letter.c.resolution, _is_erased.label("is_erased"))
    .select_from(message.outerjoin(dead_letter, dead_letter.c.message_id == message.c.id))
    .where(message.c.id == bindparam("of_id"))
    .with_for_update(of=message)
)


def messages_of(transaction: Transaction, terms: Iterable[tuple[str, str]]) -> list[int]:
    """Return the messages that are found by any of some terms, which are names with a value each."""
    found = select(term.c.message_id).where(tuple_(term.c.name, term.c.value).in_(list(terms)))
    return sorted(set(transaction.connection.scalars(found)))


def subject(transaction: Transaction, message_id: int) -> RowMapping | None:
    """Return a message, locked, with `resolution` of its letter and `is_erased`; None where there is none."""
    return transaction.connection.execute(_subject, {"of_id": message_id}).mappings().one_or_none()


def is_erased(transaction: Transaction, message_id: int) -> bool:
    """Tell whether what a message said is erased."""
    found = select(audit.c.id).where(audit.c.message_id == message_id, audit.c.verb == ERASED)
    return transaction.connection.execute(found.limit(1)).first() is not None


def documents_of(transaction: Transaction, message_id: int) -> tuple[RowMapping | None, list[bytes]]:
    """Return a message's body, None where it is kept no longer, and what it was answered."""
    connection = transaction.connection
    own = connection.execute(select(body).where(body.c.message_id == message_id)).mappings().one_or_none()
    replies = select(attempt.c.reply_body).where(
        attempt.c.message_id == message_id, attempt.c.reply_body.is_not(None)
    )
    return own, list(connection.scalars(replies))


def erase_content(
    transaction: Transaction,
    message_id: int,
    masked: Callable[[str], str],
    is_personal: Callable[[str], bool],
) -> None:
    """Drop what a message said and was answered, with all texts lifted from it.

    Args:
        masked: returns a text that a person wrote of it without what is personal.
        is_personal: tells whether a term is, by its name; its value is held against `masked`.
    """
    connection, of = transaction.connection, {"ids": [message_id]}
    for statement in _dropped:
        connection.execute(statement, of)
    lines = select(attempt.c.n, attempt.c.request_line).where(attempt.c.message_id == message_id)
    for n, line in connection.execute(lines).all():
        address = None if line is None else line.partition("?")[0]
        connection.execute(
            update(attempt)
            .where(attempt.c.message_id == message_id, attempt.c.n == n)
            .values(request_line=address)
        )
    _rewrite(transaction, dead_letter.c.note, dead_letter.c.message_id == message_id, masked)
    _rewrite(transaction, audit.c.why, audit.c.message_id == message_id, masked)
    letters = select(dead_letter.c.incident_id).where(dead_letter.c.message_id == message_id)
    _rewrite(transaction, incident.c.text, incident.c.id.in_(letters), masked)
    own = select(term).where(term.c.message_id == message_id)
    terms = [dict(row) for row in connection.execute(own).mappings()]
    forget(transaction, [message_id])
    kept = [
        each for each in terms if not is_personal(each["name"]) and masked(each["value"]) == each["value"]
    ]
    if kept:
        insert_many(connection, term, kept)


# A difference holds pieces of both documents: it goes with either.
_replays = select(message.c.id).where(message.c.replay_of.is_not(None), is_given(message.c.replay_of))
_dropped = (
    delete(edit).where(or_(is_given(edit.c.message_id), edit.c.message_id.in_(_replays))),
    update(body).where(is_given(body.c.message_id)).values(payload=None, sha256=None, query={}, headers={}),
    update(attempt)
    .where(is_given(attempt.c.message_id))
    .values(
        reply_body=None,
        reply_headers=null(),
        request_headers=null(),
        reply_complete=False,
        error=case((attempt.c.error.is_not(None), ERASED)),
    ),
    update(item).where(is_given(item.c.message_id)).values(text=ERASED, reference=ERASED),
    update(dead_letter).where(is_given(dead_letter.c.message_id)).values(text=ERASED),
    update(incident).where(is_given(incident.c.sample_message_id)).values(text=ERASED),
)


class Place(NamedTuple):
    """Where a person may be told of beside the messages: a column, in the rows for which something holds."""

    column: Column[Any]
    where: ColumnElement[bool] = true()


ELSEWHERE = (
    Place(gate.c.text),
    Place(audit.c.why, audit.c.message_id.is_(None)),
    Place(audit.c.detail, audit.c.verb == "query"),
    Place(replay_run.c.why),
    Place(replay_run.c.said),
)


class Told(NamedTuple):
    """What a row tells: a text, or an answer to a query."""

    key: Any
    told: Any

    def without(self, masked: Callable[[str], str]) -> Any:
        """Return what may be told instead: of an answer in which there is something to mask, nothing."""
        if isinstance(self.told, str):
            return masked(self.told)
        answer = self.told or {}
        if all(masked(text) == text for text in _texts(answer)):
            return self.told
        return {"query": answer.get("query"), ERASED: True}


def told_elsewhere(transaction: Transaction, place: Place, after: Any) -> list[Told]:
    """Return the rows of a place after a key, the first ones after None; fewer than `PAGE` are the last."""
    (key,) = place.column.table.primary_key.columns
    some = select(key, place.column).where(place.where).order_by(key).limit(PAGE)
    rows = transaction.connection.execute(some if after is None else some.where(key > after))
    return [Told(*row) for row in rows]


def retell(transaction: Transaction, place: Place, number: Any, masked: Callable[[str], str]) -> bool:
    """Have a row tell no more than it may, whatever it tells by now; return whether it told more.

    Args:
        number: the row's primary key.
    """
    (key,) = place.column.table.primary_key.columns
    locked = select(key, place.column).where(key == number).with_for_update()
    row = transaction.connection.execute(locked).one_or_none()
    told = Told(*row) if row else Told(number, None)
    instead = told.without(masked)
    if instead == told.told:
        return False
    transaction.connection.execute(
        update(place.column.table).where(key == number).values({place.column: instead})
    )
    return True


def _texts(value: Any) -> Sequence[str]:
    """Return all texts in a value of JSON."""
    if isinstance(value, str):
        return [value]
    parts: Collection[Any] = ()
    if isinstance(value, dict):
        parts = [*value, *value.values()]
    elif isinstance(value, list):
        parts = value
    return [text for part in parts for text in _texts(part)]


def _rewrite(transaction: Transaction, column: Column[Any], where: Any, masked: Callable[[str], str]) -> None:
    """Mask a column of texts in the rows where it is needed."""
    keys = list(column.table.primary_key.columns)
    for row in transaction.connection.execute(select(*keys, column.label("told")).where(where)).all():
        if row.told is not None and masked(row.told) != row.told:
            of_row = [key == value for key, value in zip(keys, row, strict=False)]
            still = column == row.told  # else somebody has written a newer one
            transaction.connection.execute(
                update(column.table).where(*of_row, still).values({column: masked(row.told)})
            )
