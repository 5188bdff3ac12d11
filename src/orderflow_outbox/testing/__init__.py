"""For a shop's own tests: what its code enqueued, and a database to enqueue into.

def test_an_order_is_sent_to_the_warehouse(outbox_session):
    place_order(outbox_session, "SO-1001")
    assert_enqueued(outbox_session, "order-import", key="order:SO-1001")

The fixtures come with `pytest_plugins = ["orderflow_outbox.testing.fixtures"]` in a conftest.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, StaticPool, create_engine, select

from orderflow_outbox.connections import AnySession, connection_of
from orderflow_outbox.imports import read_imports
from orderflow_outbox.items import Import
from orderflow_outbox.sqlite import prepare
from orderflow_outbox.states import State
from orderflow_outbox.tables import body, message, metadata

__all__ = ["Enqueued", "assert_enqueued", "enqueued", "memory_database"]

_COLUMNS = (
    message.c.id,
    message.c.operation,
    message.c.destination,
    message.c.channel,
    message.c.organisation,
    message.c.key,
    message.c.version,
    message.c.idempotency_key,
    message.c.state,
    message.c.due_at,
    message.c.expires_at,
    body.c.payload,
    body.c.query,
    body.c.headers,
)


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A message as it was enqueued, with all that will be sent."""

    id: int
    operation: str
    destination: str
    channel: str | None
    organisation: str | None
    key: str | None
    version: int | None
    idempotency_key: str
    state: State
    due_at: datetime | None
    expires_at: datetime | None
    payload: bytes | None
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @property
    def imports(self) -> list[Import]:
        """The items of its document; none where it has no body."""
        return [] if self.payload is None else read_imports(self.payload)


def enqueued(session: AnySession, operation: str | None = None) -> list[Enqueued]:
    """Return what was enqueued, as the transaction of `session` sees it, in order.

    Args:
        session: the shop's Session or Connection, before or after its commit.
        operation: messages of this kind alone.
    """
    statement = (
        select(*_COLUMNS).join_from(message, body, body.c.message_id == message.c.id).order_by(message.c.id)
    )
    if operation is not None:
        statement = statement.where(message.c.operation == operation)
    return [_enqueued(row) for row in connection_of(session).execute(statement)]


def assert_enqueued(session: AnySession, operation: str, **expected: Any) -> Enqueued:
    """Assert that exactly one message of `operation` has the values expected, and return it.

    Args:
        session: the shop's Session or Connection, before or after its commit.
        operation: what kind of message, such as `order-import`.
        expected: values of its attributes, such as `key="order:SO-1001"` or `query={…}`.

    Raises:
        AssertionError: none or several have them; the error shows what was enqueued instead.
        TypeError: a message has no attribute of that name.
    """
    known = Enqueued.__dataclass_fields__
    for name in expected:
        if name not in known:
            raise TypeError(f"a message has no {name}: choose of {', '.join(known)}")
    found = enqueued(session)
    fitting = [each for each in found if each.operation == operation and _has(each, expected)]
    if len(fitting) == 1:
        return fitting[0]
    wanted = ", ".join([operation, *(f"{name}={value!r}" for name, value in expected.items())])
    lines = "".join(f"\n  {_in_a_line(each)}" for each in found) or " nothing"
    raise AssertionError(f"{len(fitting)} messages are {wanted}; enqueued:{lines}")


def memory_database() -> Engine:
    """Return an engine on a database in memory, prepared and with the outbox tables.

    All its connections are one: a transaction must end before the next begins.
    """
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    metadata.create_all(prepare(engine))
    return engine


def _enqueued(row: Any) -> Enqueued:
    return Enqueued(**{**row._mapping, "state": State(row.state)})


def _has(found: Enqueued, expected: Mapping[str, Any]) -> bool:
    return all(getattr(found, name) == value for name, value in expected.items())


def _in_a_line(found: Enqueued) -> str:
    shown = ("destination", "channel", "organisation", "key", "version", "idempotency_key", "query")
    values = ((name, getattr(found, name)) for name in shown)
    return " ".join([found.operation, *(f"{name}={value!r}" for name, value in values if value)])
