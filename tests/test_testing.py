"""What a shop's tests are given: what was enqueued, told exactly, and a database in memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from orderflow_outbox import State, enqueue
from orderflow_outbox.testing import assert_enqueued, enqueued, memory_database
from tests.documents import order
from tests.rig import PROJECT


def place(session: Session | Connection, number: int) -> None:
    enqueue(
        session,
        "order-import",
        order(f"SO-{number}"),
        channel="web",
        key=f"order:SO-{number}",
        idempotency_key=f"SO-{number}",
        version=number,
        headers={"X-Trace": "abc"},
    )


def test_the_shops_example_tests_pass() -> None:
    options = ["-n", "0", "-q", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, "examples/test_shop.py"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("..")


def test_what_was_enqueued_is_told_with_all_that_will_be_sent(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        place(session, 1)
        enqueue(session, "order-cancel", channel="web", query={"externalReference": "SO-1"})
        first, second = enqueued(session)
    assert (first.operation, first.key, first.version, first.state) == (
        "order-import",
        "order:SO-1",
        1,
        State.PENDING,
    )
    assert (first.payload, first.headers) == (order("SO-1").encode(), {"X-Trace": "abc"})
    assert [each.external_reference for each in first.imports] == ["SO-1"]
    assert (second.payload, second.imports) == (None, [])
    assert second.query["externalReference"] == "SO-1"


def test_what_was_enqueued_is_seen_before_the_commit_and_gone_after_a_rollback(engine: Engine) -> None:
    with Session(engine) as session:
        place(session, 1)
        assert [each.key for each in enqueued(session)] == ["order:SO-1"]
        session.rollback()
        assert enqueued(session) == []


def test_messages_of_one_operation_can_be_asked_for(engine: Engine) -> None:
    with engine.begin() as connection:
        place(connection, 1)
        enqueue(connection, "order-cancel", channel="web", query={"externalReference": "SO-1"})
        assert [each.operation for each in enqueued(connection, "order-cancel")] == ["order-cancel"]


def test_an_assertion_that_holds_returns_the_message(engine: Engine) -> None:
    with engine.begin() as connection:
        place(connection, 1)
        place(connection, 2)
        found = assert_enqueued(connection, "order-import", key="order:SO-2", channel="web", version=2)
        assert found.idempotency_key == "SO-2"


@pytest.mark.parametrize(
    "expected",
    [{"key": "order:SO-3"}, {"channel": "shop"}, {"headers": {}}, {"key": "order:SO-1", "version": 2}],
)
def test_an_assertion_that_does_not_hold_shows_what_there_is(
    engine: Engine, expected: dict[str, object]
) -> None:
    with engine.begin() as connection:
        place(connection, 1)
        place(connection, 2)
        with pytest.raises(AssertionError) as failed:
            assert_enqueued(connection, "order-import", **expected)
    told = str(failed.value)
    assert told.startswith("0 messages are order-import, ")
    assert all(repr(value) in told for value in expected.values())
    assert "key='order:SO-1'" in told
    assert "key='order:SO-2'" in told


def test_two_messages_are_not_one(engine: Engine) -> None:
    with engine.begin() as connection:
        place(connection, 1)
        place(connection, 2)
        with pytest.raises(AssertionError, match="2 messages are order-import, channel='web'"):
            assert_enqueued(connection, "order-import", channel="web")


def test_nothing_enqueued_is_told_so(engine: Engine) -> None:
    with engine.begin() as connection, pytest.raises(AssertionError, match="enqueued: nothing"):
        assert_enqueued(connection, "order-import")


def test_a_mistyped_attribute_is_no_assertion_that_holds_by_chance(engine: Engine) -> None:
    with engine.begin() as connection, pytest.raises(TypeError, match="has no chanel: choose of"):
        assert_enqueued(connection, "order-import", chanel="web")


def test_each_database_in_memory_is_its_own_and_empty() -> None:
    one, other = memory_database(), memory_database()
    with one.begin() as connection:
        place(connection, 1)
    with one.connect() as connection:
        assert len(enqueued(connection)) == 1
    with other.connect() as connection:
        assert enqueued(connection) == []
    one.dispose()
    other.dispose()
