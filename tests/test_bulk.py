"""Many messages in one call: in order, all or none, quickly; and what is returned is what is stored."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from orderflow_outbox import (
    IdempotencyConflict,
    InvalidMessage,
    Message,
    NewMessage,
    enqueue,
    enqueue_many,
)
from orderflow_outbox.storing import on_postgresql as storing
from orderflow_outbox.tables import body, message, unindexed
from tests.databases import on_postgresql, on_sqlite_first
from tests.documents import order
from tests.statements import statements

SECONDS = 30.0
"""For many messages on a very busy machine; alone they take a second or two."""
STATEMENTS = 25


def new(number: int = 0, **arguments: Any) -> NewMessage:
    return NewMessage("order-import", order(f"SO-{number}"), **{"channel": "web", **arguments})


def count(engine: Engine, table: Any = message) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def stored_as(engine: Engine, given: Message) -> dict[str, Any]:
    """Return what the table says of a message, by the names of its attributes."""
    with engine.connect() as connection:
        row = connection.execute(select(message).where(message.c.id == given.id)).mappings().one()
    return {name: row[name] for name in Message.__dataclass_fields__ if name != "created"}


def returned(given: Message) -> dict[str, Any]:
    return {name: value for name, value in asdict(given).items() if name != "created"}


@pytest.mark.parametrize("many", [2_000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_many_are_stored_in_order_within_seconds_and_repeated_without_harm(engine: Engine, many: int) -> None:
    given = [new(n, key=f"order:SO-{n}", idempotency_key=f"k-{n}") for n in range(many)]
    for created in (True, False):
        begun = time.monotonic()
        with engine.begin() as connection, statements(engine) as seen:
            stored = enqueue_many(connection, given)
        assert time.monotonic() - begun < SECONDS
        assert len(seen) <= (STATEMENTS if created else 2 * STATEMENTS), seen[:40]
        assert [each.idempotency_key for each in stored] == [each.idempotency_key for each in given]
        assert {each.created for each in stored} == {created}
        ids = [each.id for each in stored]
        assert ids == sorted(set(ids))
    with engine.connect() as connection:
        rows = connection.execute(select(message.c.id, message.c.position).order_by(message.c.id)).all()
        assert [(each.id, each.id) for each in stored] == [tuple(row) for row in rows]
    assert (count(engine, body), count(engine, unindexed)) == (many, many)


@on_sqlite_first
def test_none_is_stored_when_the_last_of_many_is_refused(engine: Engine) -> None:
    given = [new(n) for n in range(600)]
    with engine.begin() as connection, pytest.raises(InvalidMessage) as refused:
        enqueue_many(connection, [*given, new(channel="ä"), new(channel="")])
    assert refused.value.place == 600
    assert count(engine) == 0


def test_none_is_stored_when_one_of_many_has_a_taken_key_and_the_first_is_named(engine: Engine) -> None:
    with engine.begin() as connection:
        enqueue(connection, "order-import", order("SO-1"), channel="web", idempotency_key="taken")
        with pytest.raises(IdempotencyConflict) as refused:
            enqueue_many(
                connection,
                [
                    *(new(n) for n in range(600)),
                    new(1, idempotency_key="taken"),
                    new(2, idempotency_key="taken"),
                    new(3, idempotency_key="taken"),
                ],
            )
    assert refused.value.place == 601
    assert refused.value.differs == ("payload",)
    assert [count(engine, table) for table in (message, body, unindexed)] == [1, 1, 1]


def test_a_key_given_twice_in_one_call_is_one_message_or_a_conflict(engine: Engine) -> None:
    twice = [new(1), new(1, idempotency_key="k"), new(2), new(1, idempotency_key="k")]
    with engine.begin() as connection:
        stored = enqueue_many(connection, twice)
        assert [each.created for each in stored] == [True, True, True, False]
        assert stored[3].id == stored[1].id
        with pytest.raises(IdempotencyConflict) as refused:
            enqueue_many(connection, [new(1, idempotency_key="l"), new(2, idempotency_key="l")])
    assert refused.value.place == 1
    assert count(engine) == 3


@on_sqlite_first
def test_one_key_at_two_destinations_is_two_messages(engine: Engine) -> None:
    given = [new(n // 2, destination=("a", "b")[n % 2], idempotency_key=f"k-{n // 2}") for n in range(100)]
    with engine.begin() as connection:
        first = enqueue_many(connection, given)
        again = enqueue_many(connection, given)
    assert [each.destination for each in first] == ["a", "b"] * 50
    assert [each.id for each in again] == [each.id for each in first]
    assert count(engine) == 100


def test_messages_among_repeats_keep_their_places(engine: Engine) -> None:
    with engine.begin() as connection:
        enqueue_many(connection, [new(n, idempotency_key=f"k-{n}") for n in range(0, 20, 2)])
        stored = enqueue_many(connection, [new(n, idempotency_key=f"k-{n}") for n in range(20)])
    assert [each.created for each in stored] == [False, True] * 10
    assert [each.idempotency_key for each in stored] == [f"k-{n}" for n in range(20)]
    for each in stored:
        assert returned(each) == stored_as(engine, each)


@on_postgresql
def test_large_messages_are_not_all_sent_in_one_statement(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "BYTES_PER_STATEMENT", 400_000)
    document = f"<imports><import>{'x' * 100_000}</import></imports>"
    given = [NewMessage("order-import", document, channel="web", idempotency_key=f"k-{n}") for n in range(22)]
    with engine.begin() as connection, statements(engine) as seen:
        stored = enqueue_many(connection, given)
    assert len([each for each in seen if "INSERT" in each]) == 6, "four and what is left in each"
    assert [each.idempotency_key for each in stored] == [f"k-{n}" for n in range(22)]
    assert count(engine) == 22


@pytest.mark.parametrize("in_a_list", [False, True])
def test_what_is_returned_is_what_is_stored(engine: Engine, in_a_list: bool) -> None:
    zone = timezone(timedelta(hours=-7))
    everything: dict[str, Any] = {
        "destination": "other",
        "channel": "web",
        "organisation": "acme",
        "key": "order:SO-1",
        "version": 2**63 - 1,
        "idempotency_key": "k",
        "deliver_after": datetime(2031, 1, 1, 3, 4, 5, 678901, tzinfo=zone),
        "expires_at": datetime(2032, 1, 1, 3, 4, 5, 987654, tzinfo=zone),
    }
    given = [NewMessage("order-import", order("SO-1"), **more) for more in (everything, {"channel": "web"})]
    past = NewMessage(
        "order-import", order("SO-1"), channel="web", deliver_after=datetime(2001, 1, 1, tzinfo=UTC)
    )
    with engine.begin() as connection:
        if in_a_list:
            stored = enqueue_many(connection, [*given, past, given[0]])
        else:
            stored = [
                enqueue(connection, **{name: getattr(each, name) for name in NewMessage.__dataclass_fields__})
                for each in (*given, past, given[0])
            ]
    assert [each.created for each in stored] == [True, True, True, False]
    for each in stored:
        assert returned(each) == stored_as(engine, each)
    assert stored[0] == stored[3].__class__(**{**asdict(stored[3]), "created": True})
