"""Making what messages are found by: a row of `outbox_term` for each term that the shop left, and texts.

From `outbox_unindexed` a message's terms go to their rows and its request to `outbox_unindexed_text`; replies
come there as they are recorded. Whoever deletes a message calls `forget`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

from sqlalchemy import (
    LargeBinary,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    tuple_,
    type_coerce,
)

from orderflow_outbox.tables import PLACES, attempt, body, full_text, message, term, unindexed, unindexed_text
from orderflow_outbox.terms import pairs_of
from worker.search.texts import MAX_TEXT_BYTES, folded, text_of

from .bulk import insert_many
from .given import IDS, is_given
from .transactions import Transaction

BATCH = 200
"""Messages, or texts, of one batch at most."""
BATCH_CHARACTERS = 100_000
"""Past so many characters of terms a batch takes no further message: on SQLite the shop waits meanwhile."""
BATCH_BYTES = 40_000
"""The same of texts, which take longer."""
LOOKED_AT_FOR_OLDEST = 1000
"""So many of the first by number are asked for their age."""

_any = select(unindexed.c.message_id).limit(1)
_any_text = select(unindexed_text.c.message_id).limit(1)
_first = (
    select(unindexed.c.message_id, func.length(unindexed.c.terms).label("characters"))
    .order_by(unindexed.c.message_id)
    .limit(BATCH)
)
_next = _first.with_for_update(skip_locked=True)
_next_in_turn = _first.with_for_update()
_take = (
    delete(unindexed)
    .where(unindexed.c.message_id.in_(bindparam("ids", expanding=True)))
    .returning(unindexed.c.message_id, unindexed.c.terms)
)
_beginning = type_coerce(
    func.coalesce(
        func.substr(body.c.payload, 1, MAX_TEXT_BYTES), func.substr(attempt.c.reply_body, 1, MAX_TEXT_BYTES)
    ),
    LargeBinary(),
)
# Of a column alone, whose value is not read for it.
_size = func.coalesce(func.length(body.c.payload), func.length(attempt.c.reply_body), 0)
_its_number = (unindexed_text.c.message_id, unindexed_text.c.n)
_with_bodies = unindexed_text.outerjoin(
    body, and_(body.c.message_id == unindexed_text.c.message_id, unindexed_text.c.n == 0)
).outerjoin(
    attempt, and_(attempt.c.message_id == unindexed_text.c.message_id, attempt.c.n == unindexed_text.c.n)
)
_next_texts = (
    select(*_its_number, _size.label("bytes"))
    .select_from(_with_bodies)
    .order_by(*_its_number)
    .limit(BATCH)
    .with_for_update(skip_locked=True, of=unindexed_text)
)
# By the messages, too: for pairs alone SQLite reads all that waits.
_is_taken = and_(
    is_given(unindexed_text.c.message_id), tuple_(*_its_number).in_(bindparam("numbers", expanding=True))
)
_beginnings = select(*_its_number, _beginning.label("beginning")).select_from(_with_bodies).where(_is_taken)
_take_texts = delete(unindexed_text).where(_is_taken)

_take_away = delete(full_text).where(full_text.c.place.between(bindparam("first"), bindparam("last")))


@dataclass(frozen=True, slots=True)
class Lag:
    """What is not found yet that will be.

    Attributes:
        messages: those not found by their terms yet.
        texts: requests and replies not found by what they say.
        oldest: since when the first of all these waits; None where none does.
    """

    messages: int
    texts: int
    oldest: datetime | None


NO_LAG = Lag(0, 0, None)


def has_unindexed(transaction: Transaction) -> bool:
    """Tell whether any message is not found by its terms yet."""
    return transaction.connection.execute(_any).first() is not None


def has_unindexed_texts(transaction: Transaction) -> bool:
    """Tell whether any request or reply is not found by its text yet."""
    return transaction.connection.execute(_any_text).first() is not None


def index(transaction: Transaction, wait: bool = False) -> bool:
    """Make the terms of a batch of messages, those enqueued first; return whether there may be more.

    Args:
        wait: for those that another has in hand, which are passed over else.
    """
    connection = transaction.connection
    waiting = connection.execute(_next_in_turn if wait else _next).all()
    if not waiting:
        return False
    sizes = accumulate(row.characters for row in waiting)
    ids = [row.message_id for row, size in zip(waiting, sizes, strict=True) if size <= BATCH_CHARACTERS]
    ids = ids or [waiting[0].message_id]
    rows = connection.execute(_take, {"ids": ids}).all()
    terms = [(name, value, row.message_id) for row in rows for name, value in pairs_of(row.terms)]
    if terms:
        # In the order of the index, of which neighbours lie on one page.
        columns = ("name", "value", "message_id")
        insert_many(connection, term, [dict(zip(columns, each, strict=True)) for each in sorted(terms)])
    ask_for_texts(transaction, [(each, 0) for each in ids])
    return len(ids) < len(waiting) or len(waiting) == BATCH


def ask_for_texts(transaction: Transaction, numbers: Collection[tuple[int, int]]) -> None:
    """Have texts indexed later on.

    Args:
        numbers: the message's and the attempt's, of each reply; 0 in place of the latter for the request.
    """
    rows = [{"message_id": message_id, "n": n} for message_id, n in numbers if n < PLACES]
    if rows:
        insert_many(transaction.connection, unindexed_text, rows)


def index_texts(transaction: Transaction, keep: bool = True) -> bool:
    """Make a batch of texts that people search by, of those enqueued first; return whether there may be more.

    Args:
        keep: False gives them up.
    """
    connection = transaction.connection
    waiting = connection.execute(_next_texts).all()
    if not waiting:
        return False
    sizes = accumulate(min(row.bytes, MAX_TEXT_BYTES) for row in waiting)
    taken = [row for row, size in zip(waiting, sizes, strict=True) if size <= BATCH_BYTES] or waiting[:1]
    numbers = [(row.message_id, row.n) for row in taken]
    given = {IDS: list({message_id for message_id, _ in numbers}), "numbers": numbers}
    texts = [
        {"place": row.message_id * PLACES + row.n, "text": folded(text_of(row.beginning))}
        for row in (connection.execute(_beginnings, given) if keep else ())
        if row.beginning
    ]
    connection.execute(_take_texts, given)
    if texts:
        insert_many(connection, full_text, texts)
    return len(taken) < len(waiting) or len(waiting) == BATCH


def be_found_alike(transaction: Transaction, origin: int, heir: int) -> None:
    """Have a message be found by what another one is found by, whether that is indexed or not yet."""
    connection = transaction.connection
    # Locked, so that it is either not indexed before this transaction ends, or has been.
    terms = connection.scalar(
        select(unindexed.c.terms).where(unindexed.c.message_id == origin).with_for_update()
    )
    if terms is not None:
        connection.execute(insert(unindexed), {"message_id": heir, "terms": terms})
        return
    copied = select(term.c.name, term.c.value, literal(heir)).where(term.c.message_id == origin)
    connection.execute(insert(term).from_select(["name", "value", "message_id"], copied))
    ask_for_texts(transaction, [(heir, 0)])


def forget(transaction: Transaction, ids: Collection[int]) -> None:
    """Take away all that messages are found by, for good."""
    connection = transaction.connection
    # In this order, since an indexer that has one of them in hand is waited for, and then its rows are seen.
    for table in (unindexed, unindexed_text, term):
        connection.execute(delete(table).where(is_given(table.c.message_id)), {"ids": list(ids)})
    ends = [{"first": first * PLACES, "last": (last + 1) * PLACES - 1} for first, last in _runs(ids)]
    if ends:
        connection.execute(_take_away, ends)


def _runs(ids: Collection[int]) -> list[tuple[int, int]]:
    """Return the first and the last of those that follow one another."""
    runs: list[tuple[int, int]] = []
    for each in sorted(ids):
        first, last = runs.pop() if runs else (each, each)
        if each > last + 1:
            runs.append((first, last))
            first = each
        runs.append((first, each))
    return runs


def lag(transaction: Transaction) -> Lag:
    """Return what is not found yet that will be."""
    connection = transaction.connection
    messages = connection.scalar(select(func.count()).select_from(unindexed)) or 0
    texts = connection.scalar(select(func.count()).select_from(unindexed_text)) or 0
    waiting = select(*_its_number).order_by(*_its_number).limit(LOOKED_AT_FOR_OLDEST).subquery()
    since = func.coalesce(attempt.c.finished_at, message.c.created_at, type_=message.c.created_at.type)
    oldest = (
        select(func.min(since))
        .select_from(waiting)
        .outerjoin(attempt, and_(attempt.c.message_id == waiting.c.message_id, attempt.c.n == waiting.c.n))
        .outerjoin(message, message.c.id == waiting.c.message_id)
    )
    first = select(unindexed.c.message_id).order_by(unindexed.c.message_id).limit(1).scalar_subquery()
    moments = (
        connection.scalar(oldest),
        connection.scalar(select(message.c.created_at).where(message.c.id == first)),
    )
    return Lag(messages, texts, min((each for each in moments if each is not None), default=None))
