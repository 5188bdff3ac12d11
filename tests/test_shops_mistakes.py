"""What integrators get wrong: told in one line, without a credential, and with nothing half done."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from orderflow_outbox import (
    Hints,
    InvalidBroker,
    InvalidMessage,
    InvalidQuestion,
    NewMessage,
    NotASession,
    NotTransactional,
    OutboxError,
    UnsupportedDatabase,
    UnsupportedSchema,
    borrowed,
    enqueue,
    enqueue_many,
    metadata,
    status_of,
)
from orderflow_outbox.sqlite import prepare
from tests.databases import on_postgresql
from tests.documents import order

SECRET = "s3cret"


def refused(engine: Engine, **wrong: Any) -> InvalidMessage:
    arguments = {"operation": "order-import", "payload": order("SO-1"), "channel": "web", **wrong}
    with engine.begin() as connection, pytest.raises(InvalidMessage) as caught:
        enqueue(connection, **arguments)
    return caught.value


@pytest.mark.parametrize(
    "wrong",
    [
        {"headers": {"Authorization": f"Bearer {SECRET}\n"}},
        {"headers": {"Authorization": f"Bearer {SECRET}".encode()}},
        {"headers": {"X-Api-Key": f"{SECRET}\n"}},
        {"headers": {"X-Api-Key": f" {SECRET}"}},
        {"headers": {"X-Api-Key": SECRET * 2000}},
        {"query": {"password": f"{SECRET}\n"}},
        {"query": {"Password": SECRET}},
    ],
)
def test_no_credential_is_repeated_by_a_refusal(engine: Engine, wrong: dict[str, Any]) -> None:
    error = refused(engine, **wrong)
    assert SECRET not in str(error)
    assert SECRET not in error.value


@pytest.mark.parametrize(
    "nowhere",
    [
        f"redis://:pa[{SECRET}]x@127.0.0.1/0",
        f"redis//:{SECRET}@host/0",
        f"foo://:{SECRET}@host",
        f"redis://:{SECRET}@host".encode(),
        "",
    ],
)
def test_an_address_that_leads_nowhere_is_refused_without_its_password(nowhere: Any) -> None:
    with pytest.raises(InvalidBroker) as caught:
        Hints(nowhere)
    assert SECRET not in str(caught.value)


class Table:
    """A value that is shown on many lines, as tables of numbers are."""

    def __repr__(self) -> str:
        return "a\nb\nc"


@pytest.mark.parametrize(
    "wrong",
    [
        {"payload": Table()},
        {"version": 10**5000},
        {"catalogue": "operations.toml"},
        {"headers": {"X" * 100_000: "a"}},
        {"key": "k" * 100_000},
    ],
)
def test_every_refusal_is_one_line_of_a_readable_length(engine: Engine, wrong: dict[str, Any]) -> None:
    told = str(refused(engine, **wrong))
    assert "\n" not in told
    assert len(told) < 400


@pytest.mark.parametrize("wrong", [NewMessage("order-cancel"), "order-cancel", {"operation": "x"}, None, 5])
def test_what_is_no_list_of_messages_is_told_so(engine: Engine, wrong: Any) -> None:
    with engine.begin() as connection, pytest.raises(InvalidMessage, match=r"^messages is .*: give a list"):
        enqueue_many(connection, wrong)


def test_what_is_no_message_of_a_list_is_told_with_its_place(engine: Engine) -> None:
    new = NewMessage("order-import", order("SO-1"), channel="web")
    with (
        engine.begin() as connection,
        pytest.raises(InvalidMessage, match=r"^messages\[1\] is \{.*NewMessage"),
    ):
        enqueue_many(connection, [new, {"operation": "order-import"}])  # type: ignore[list-item]


@pytest.mark.parametrize("how", [{"message_id": 10**30}, {"key": "a\0b"}, {"idempotency_key": "\ud800"}])
def test_a_key_that_no_database_takes_belongs_to_no_message(engine: Engine, how: dict[str, Any]) -> None:
    with engine.begin() as connection:
        assert status_of(connection, **how) is None
        connection.execute(text("SELECT 1"))


@pytest.mark.parametrize("how", [{"message_id": "1"}, {"message_id": True}, {"key": 7}])
def test_a_key_of_another_type_is_told_so(engine: Engine, how: dict[str, Any]) -> None:
    with engine.begin() as connection, pytest.raises(InvalidQuestion, match="give a value of type"):
        status_of(connection, **how)


@pytest.mark.parametrize(
    "error",
    [
        InvalidMessage("key", 5, "give text", 3),
        InvalidBroker("nowhere", "go elsewhere"),
        InvalidQuestion("nothing given", "give one"),
        NotASession(5),
        NotTransactional("no transaction"),
        UnsupportedDatabase("mysql"),
        UnsupportedSchema(7, 1, 1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_the_same_in_another_process(error: OutboxError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):  # noqa: S301 (our own)
        assert (type(again), str(again), again.__dict__) == (type(error), str(error), error.__dict__)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the driver has no such setting before Python 3.12")
@pytest.mark.parametrize("autocommit", [True, False])
def test_a_driver_that_begins_transactions_in_its_own_way_is_refused(autocommit: bool) -> None:
    engine = prepare(create_engine("sqlite://", connect_args={"autocommit": autocommit}))
    with pytest.raises(NotTransactional, match="leave it out of connect_args"), engine.connect():
        pass


@on_postgresql
def test_preparing_an_engine_of_another_database_changes_nothing(engine: Engine) -> None:
    other = prepare(create_engine(engine.url))
    with Session(other) as session, session.begin():
        assert enqueue(session, "order-import", order("SO-1"), channel="web").created
    other.dispose()


def _open(file: str, ready: Any) -> None:
    engine = prepare(create_engine(f"sqlite:///{file}"))
    ready.wait(30)
    with engine.begin() as connection:
        connection.execute(text("SELECT 1"))


def test_processes_that_open_a_fresh_file_at_once_all_get_in(tmp_path: Path) -> None:
    spawning = multiprocessing.get_context("fork")
    for round_ in range(5):
        file = tmp_path / f"{round_}.db"
        sqlite3.connect(file).execute("CREATE TABLE shop (n)").connection.close()
        ready = spawning.Barrier(6)
        shops = [spawning.Process(target=_open, args=(str(file), ready)) for _ in range(6)]
        for shop in shops:
            shop.start()
        for shop in shops:
            shop.join(30)
        assert [shop.exitcode for shop in shops] == [0] * 6


def test_each_database_lent_is_looked_at_for_its_tables(tmp_path: Path) -> None:
    good = prepare(create_engine(f"sqlite:///{tmp_path}/good.db"))
    metadata.create_all(good)
    good.dispose()
    for name, fits in (("good.db", True), ("empty.db", False)):
        lent = sqlite3.connect(tmp_path / name, isolation_level=None)
        lent.execute("BEGIN IMMEDIATE")
        with borrowed(lent) as outbox:
            if fits:
                assert enqueue(outbox, "order-import", order("SO-1"), channel="web").created
            else:
                with pytest.raises(UnsupportedSchema):
                    enqueue(outbox, "order-import", order("SO-1"), channel="web")
        lent.execute("ROLLBACK")
        lent.close()
