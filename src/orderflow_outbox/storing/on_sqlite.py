"""Storing new messages in SQLite: it lives in the shop's process, where a few statements cost little."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, func, text
from sqlalchemy.dialects.sqlite import insert

from orderflow_outbox.clock import database_now
from orderflow_outbox.messages import CheckedMessage
from orderflow_outbox.tables import body, message, term
from orderflow_outbox.types import UtcDateTime

from .rows import AT_FIRST, SAME_IDENTITY, Stored, message_row

# The number AUTOINCREMENT gives next. Only the holder of the write lock inserts, so none comes between.
_NEXT_NUMBER = "(SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'outbox_message')"

_insert_message = (
    insert(message)
    .values(
        **AT_FIRST,
        position=text(_NEXT_NUMBER),
        blocks=bindparam("key_given"),
        created_at=database_now(),
        due_at=func.coalesce(bindparam("deliver_after", type_=UtcDateTime()), database_now()),
    )
    .on_conflict_do_nothing(**SAME_IDENTITY)
    .returning(message.c.id, message.c.created_at, message.c.due_at)
)
_insert_body = body.insert()
_insert_terms = term.insert()


def store(connection: Connection, messages: Sequence[CheckedMessage]) -> list[Stored | None]:
    """Insert `messages`; see `orderflow_outbox.storing.store`."""
    return [_store(connection, checked) for checked in messages]


def _store(connection: Connection, checked: CheckedMessage) -> Stored | None:
    row = connection.execute(
        _insert_message,
        {
            **message_row(checked),
            "key_given": checked.key is not None,
            "deliver_after": checked.deliver_after,
        },
    ).one_or_none()
    if row is None:
        return None
    connection.execute(
        _insert_body,
        {
            "message_id": row.id,
            "payload": checked.payload,
            "sha256": checked.sha256,
            "query": checked.query,
            "headers": checked.headers,
        },
    )
    if checked.terms:
        terms = [{"name": name, "value": value, "message_id": row.id} for name, value in checked.terms]
        connection.execute(_insert_terms, terms)
    return Stored(row.id, row.created_at, row.due_at)
