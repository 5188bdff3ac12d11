"""What `enqueue` promises a shop: durable with its commit, gone with its rollback, refused with a reason."""

from __future__ import annotations

import hashlib
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum, StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest
from sqlalchemy import Connection, Engine, Row, create_engine, func, select, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool

from orderflow_outbox import (
    PREDEFINED,
    Answer,
    Catalogue,
    IdempotencyConflict,
    InvalidHeader,
    InvalidMessage,
    InvalidOperation,
    InvalidPayload,
    Message,
    MissingScope,
    NewMessage,
    NotASession,
    NotTransactional,
    Operation,
    PayloadTooLarge,
    Scope,
    State,
    UnknownOperation,
    UnsupportedDatabase,
    WhenDead,
    enqueue,
    enqueue_many,
)
from orderflow_outbox.documents import MAX_DEPTH, MAX_PAYLOAD_BYTES
from orderflow_outbox.messages import MAX_REFERENCE_CHARACTERS
from orderflow_outbox.sqlite import prepare
from orderflow_outbox.tables import body, message
from tests.databases import on_postgresql, on_sqlite
from tests.documents import order

SOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
LATER = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)


def rows(engine: Engine) -> list[Row[Any]]:
    """Return what another connection sees of the outbox."""
    with engine.connect() as connection:
        return list(
            connection.execute(
                select(message, body).join_from(message, body, body.c.message_id == message.c.id, full=True)
            )
        )


def counts(engine: Engine) -> tuple[int, int]:
    """Return the number of messages and of bodies."""
    with engine.connect() as connection:
        return (
            connection.scalar(select(func.count()).select_from(message)) or 0,
            connection.scalar(select(func.count()).select_from(body)) or 0,
        )


# Durable with the commit, gone with the rollback


def test_a_committed_session_stores_the_message(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        stored = enqueue(session, "order-import", order("SO-1"), channel="web")
    [row] = rows(engine)
    assert (row.id, row.state) == (stored.id, "pending")


def test_a_committed_connection_stores_the_message(engine: Engine) -> None:
    with engine.begin() as connection:
        stored = enqueue(connection, "order-import", order("SO-1"), channel="web")
    assert [row.id for row in rows(engine)] == [stored.id]


def test_nothing_is_visible_to_others_before_the_commit(engine: Engine) -> None:
    reader = create_engine(engine.url)
    with engine.begin() as connection:
        enqueue(connection, "order-import", order("SO-1"), channel="web")
        assert counts(reader) == (0, 0)
    assert counts(reader) == (1, 1)
    reader.dispose()


def test_a_rolled_back_order_sends_nothing(engine: Engine) -> None:
    with Session(engine) as session:
        enqueue(session, "order-import", order("SO-1"), channel="web")
        session.rollback()
    assert counts(engine) == (0, 0)


def test_an_exception_in_the_shops_transaction_leaves_nothing(engine: Engine) -> None:
    def shop() -> None:
        with engine.begin() as connection:
            enqueue(connection, "order-import", order("SO-1"), channel="web")
            raise RuntimeError("out of stock")

    with pytest.raises(RuntimeError):
        shop()
    assert counts(engine) == (0, 0)


def test_enqueue_does_not_commit_the_shops_own_work(engine: Engine) -> None:
    with engine.connect() as connection:
        enqueue(connection, "order-import", order("SO-1"), channel="web")
        assert connection.in_transaction()
        connection.rollback()
    assert counts(engine) == (0, 0)


def test_a_database_that_is_neither_sqlite_nor_postgresql_is_refused() -> None:
    connection = create_autospec(Connection, instance=True)  # no other driver is installed here
    connection.dialect = Mock()
    connection.dialect.name = "mysql"
    with pytest.raises(UnsupportedDatabase, match="mysql"):
        enqueue(connection, "order-import", order("SO-1"), channel="web")


@pytest.mark.parametrize("given", [None, object(), {}, sessionmaker()])
def test_what_is_no_session_is_told_so(given: object) -> None:
    with pytest.raises(NotASession, match="run_sync"):
        enqueue(given, "order-import", order("SO-1"), channel="web")  # type: ignore[arg-type]


def test_a_scoped_session_is_a_session(engine: Engine) -> None:
    session = scoped_session(sessionmaker(engine))
    stored = enqueue(session, "order-import", order("SO-1"), channel="web")  # type: ignore[arg-type]
    session.commit()
    session.remove()
    assert stored.created


@on_sqlite
def test_an_unprepared_sqlite_engine_is_refused_since_its_rollback_may_keep_the_message(
    tmp_path: Path, engine: Engine
) -> None:
    unprepared = create_engine(f"sqlite:///{tmp_path}/outbox.db")
    with unprepared.connect() as connection, pytest.raises(NotTransactional, match=r"prepare\(engine\)"):
        enqueue_many(connection, [NewMessage("order-import", order("SO-1"), channel="web")])
    unprepared.dispose()


def test_a_rolled_back_savepoint_or_batch_sends_nothing(engine: Engine) -> None:
    new = [NewMessage("order-import", order("SO-1"), channel="web")]
    with Session(engine) as session:
        enqueue_many(session, new)
        session.rollback()
    with Session(engine) as session:
        with session.begin_nested():
            enqueue(session, "order-import", order("SO-2"), channel="web")
        session.rollback()
    assert counts(engine) == (0, 0)


@on_sqlite
def test_autocommit_changes_nothing_on_a_prepared_sqlite(engine: Engine) -> None:
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        enqueue_many(connection, [NewMessage("order-import", order("SO-1"), channel="web")])
        connection.rollback()
    assert counts(engine) == (0, 0)


@on_postgresql
def test_a_connection_that_commits_by_itself_is_refused(engine: Engine) -> None:
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection, pytest.raises(NotTransactional, match="AUTOCOMMIT"):
        enqueue(connection, "order-import", order("SO-1"), channel="web")
    assert counts(engine) == (0, 0)


def test_an_error_survives_the_way_to_another_process(engine: Engine) -> None:
    with engine.begin() as connection, pytest.raises(InvalidMessage) as refused:
        enqueue(connection, "order-import", "<imports/>", channel="web")
    for error in (refused.value, IdempotencyConflict("k", 7, ("payload",))):
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
def test_utf_16_is_refused_whether_it_says_so_or_not(engine: Engine, encoding: str) -> None:
    with engine.begin() as connection, pytest.raises(InvalidPayload):
        enqueue(connection, "order-import", order("SO-1").encode(encoding), channel="web")


@pytest.mark.parametrize(
    "wrong",
    [
        {"headers": {"X-A": " padded "}},
        {"headers": {"X-A": "1", "x-a": "2"}},
        {"deliver_after": datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))},
        {"deliver_after": datetime.max.replace(tzinfo=UTC)},
        {"expires_at": datetime.max.replace(tzinfo=UTC)},
        {"payload": '<?xml version="1.1"?>' + order("SO-1")},
    ],
)
def test_what_would_not_travel_as_given_is_refused(engine: Engine, wrong: dict[str, Any]) -> None:
    arguments = {"payload": order("SO-1"), "channel": "web", **wrong}
    with engine.begin() as connection, pytest.raises(InvalidMessage):
        enqueue(connection, "order-import", **arguments)


# What is stored


def test_every_argument_reaches_the_row_and_the_body(engine: Engine) -> None:
    document = order("SO-1").encode()
    with engine.begin() as connection:
        stored = enqueue(
            connection,
            "order-import",
            document,
            destination="second",
            channel="web",
            organisation="acme",
            key="order:SO-1",
            idempotency_key="SO-1/1",
            version=7,
            query={"a": "1"},
            headers={"X-Trace": "t-1"},
            deliver_after=SOON,
            expires_at=LATER,
        )
    [row] = rows(engine)
    told = {name: getattr(stored, name) for name in Message.__dataclass_fields__ if name != "created"}
    assert told == {name: getattr(row, name) for name in told}
    assert told == {
        "id": 1,
        "destination": "second",
        "operation": "order-import",
        "channel": "web",
        "organisation": "acme",
        "key": "order:SO-1",
        "version": 7,
        "idempotency_key": "SO-1/1",
        "state": State.PENDING,
        "due_at": SOON,
        "expires_at": LATER,
        "created_at": row.created_at,
    }
    assert stored.created
    assert (row.position, row.blocks, row.in_doubt, row.replay_of) == (stored.id, True, False, None)
    assert (row.attempts, row.tries, row.rescues) == (0, 0, 0)
    assert (row.payload, row.sha256) == (document, hashlib.sha256(document).digest())
    assert (row.query, row.headers) == ({"a": "1"}, {"X-Trace": "t-1"})


def test_a_message_with_no_more_than_it_needs_is_due_at_once_and_blocks_nobody(engine: Engine) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    with engine.begin() as connection:
        stored = enqueue(connection, "order-import", order("SO-1"), channel="web")
    [row] = rows(engine)
    assert before < row.due_at <= datetime.now(UTC)
    assert (row.destination, row.key, row.blocks, row.version) == ("main", None, False, None)
    assert (row.query, row.headers, row.expires_at) == ({}, {}, None)
    assert len(stored.idempotency_key) == 32


@pytest.mark.parametrize("year", [1, 1900, 1969, 2020])
def test_a_moment_that_is_past_is_now_and_overtakes_nobody(engine: Engine, year: int) -> None:
    with engine.begin() as connection:
        first = enqueue(connection, "order-import", order("SO-1"), channel="web")
        past = datetime(year, 1, 1, tzinfo=UTC)
        second = enqueue(connection, "order-import", order("SO-2"), channel="web", deliver_after=past)
    assert first.due_at is not None
    assert second.due_at is not None
    assert second.due_at >= first.due_at


def test_a_moment_of_another_time_zone_is_the_same_moment(engine: Engine) -> None:
    with engine.begin() as connection:
        elsewhere = SOON.astimezone(timezone(timedelta(hours=5)))
        moments = {"deliver_after": elsewhere, "expires_at": elsewhere + timedelta(hours=1)}
        stored = enqueue(connection, "order-import", order("SO-1"), channel="web", **moments)
        found = select(message.c.id).where(
            message.c.due_at == SOON, message.c.expires_at == SOON + timedelta(hours=1)
        )
        assert connection.scalar(found) == stored.id
    assert (stored.due_at, stored.expires_at) == (SOON, SOON + timedelta(hours=1))


@pytest.mark.parametrize(
    "document",
    [
        b"<imports>\r\n\t<import   type = 'order'/>\r\n</imports>\n\n",
        b"\xef\xbb\xbf<?xml version='1.0' encoding='UTF-8'?><imports><import/></imports>",
        "<imports><import>Zoë &amp; 日本 &#233;<!-- kept --></import></imports>".encode(),
    ],
)
def test_bytes_are_stored_as_given(engine: Engine, document: bytes) -> None:
    with engine.begin() as connection:
        enqueue(connection, "order-import", document, channel="web")
    assert [row.payload for row in rows(engine)] == [document]


def test_text_is_stored_as_utf_8(engine: Engine) -> None:
    document = "<imports><import>Zoë</import></imports>"
    with engine.begin() as connection:
        enqueue(connection, "order-import", document, channel="web")
    assert [row.payload for row in rows(engine)] == [document.encode("utf-8")]


def test_a_message_without_a_body_stores_its_query_with_the_operations_defaults(engine: Engine) -> None:
    with engine.begin() as connection:
        enqueue(connection, "order-cancel", channel="web", query={"externalReference": "SO-1"})
    [row] = rows(engine)
    assert (row.payload, row.sha256) == (None, None)
    assert row.query == {"cancelChangesExternalReference": "false", "externalReference": "SO-1"}


def test_a_given_query_overrules_the_operations_default(engine: Engine) -> None:
    query = {"externalReference": "SO-1", "cancelChangesExternalReference": "true"}
    with engine.begin() as connection:
        enqueue(connection, "order-cancel", channel="web", query=query)
    assert [row.query for row in rows(engine)] == [query]


def test_an_operation_of_the_shops_own_catalogue_can_be_enqueued(engine: Engine) -> None:
    own = Catalogue(
        [Operation("price-import", "remotewarehouse/prices.xml", Scope.CHANNEL, body_root="prices")]
    )
    with engine.begin() as connection:
        stored = enqueue(
            connection, "price-import", "<prices><import/></prices>", channel="web", catalogue=own
        )
    assert stored.operation == "price-import"


# Idempotency


def test_the_same_key_and_content_is_the_same_message(engine: Engine) -> None:
    with engine.begin() as connection:
        first = enqueue(connection, "order-import", order("SO-1"), channel="web", idempotency_key="k")
    with engine.begin() as connection:
        again = enqueue(connection, "order-import", order("SO-1"), channel="web", idempotency_key="k")
    assert (first.created, again.created, again.id) == (True, False, first.id)
    assert counts(engine) == (1, 1)


class Word(StrEnum):
    WEB = "web"
    KEY = "order:SO-1"


class Number(IntEnum):
    SEVENTH = 7


def test_members_of_enumerations_are_the_same_content_as_what_they_stand_for(engine: Engine) -> None:
    with engine.begin() as connection:
        for word, key, version in ((Word.WEB, Word.KEY, Number.SEVENTH), ("web", "order:SO-1", 7)):
            stored = enqueue(
                connection,
                "order-import",
                order("SO-1"),
                destination=word,
                channel=word,
                organisation=word,
                key=key,
                idempotency_key=key,
                version=version,
                query={word: word},
                headers={word: word},
            )
    assert not stored.created


def test_query_and_headers_are_the_same_content_in_any_order(engine: Engine) -> None:
    given = {"a": "1", "b": "2"}
    backwards = dict(reversed(given.items()))
    with engine.begin() as connection:
        for each in (given, backwards):
            stored = enqueue(
                connection,
                "order-import",
                order("SO-1"),
                channel="web",
                idempotency_key="k",
                query=each,
                headers=each,
            )
    assert not stored.created
    assert counts(engine) == (1, 1)


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        ({"payload": order("SO-2")}, ("payload",)),
        ({"channel": "shop"}, ("channel",)),
        ({"organisation": "acme"}, ("organisation",)),
        ({"key": "order:SO-2"}, ("key",)),
        ({"version": 2}, ("version",)),
        ({"query": {"a": "1"}}, ("query",)),
        ({"headers": {"X-A": "1"}}, ("headers",)),
        ({"operation": "product-import", "organisation": "acme"}, ("operation", "organisation")),
        ({"payload": order("SO-2"), "version": 2}, ("version", "payload")),
    ],
)
def test_the_same_key_with_other_content_is_an_error_naming_what_differs(
    engine: Engine, other: dict[str, Any], differs: tuple[str, ...]
) -> None:
    given = {"operation": "order-import", "payload": order("SO-1"), "channel": "web", "idempotency_key": "k"}
    with engine.begin() as connection:
        first = enqueue(connection, **given)
    with engine.begin() as connection, pytest.raises(IdempotencyConflict) as caught:
        enqueue(connection, **{**given, **other})
    assert (caught.value.message_id, caught.value.differs) == (first.id, differs)
    assert all(name in str(caught.value) for name in differs)
    assert counts(engine) == (1, 1)


def test_another_time_of_delivery_is_no_other_content(engine: Engine) -> None:
    given: dict[str, Any] = {"payload": order("SO-1"), "channel": "web", "idempotency_key": "k"}
    with engine.begin() as connection:
        enqueue(connection, "order-import", **given)
        again = enqueue(connection, "order-import", **given, deliver_after=SOON, expires_at=LATER)
    assert not again.created


def test_two_transactions_at_once_with_one_key_store_one_message(engine: Engine) -> None:
    barrier = threading.Barrier(8)

    def shop(_: int) -> Message:
        barrier.wait()
        with Session(engine) as session, session.begin():
            return enqueue(session, "order-import", order("SO-1"), channel="web", idempotency_key="k")

    with ThreadPoolExecutor(8) as threads:
        stored = list(threads.map(shop, range(8)))
    assert len({each.id for each in stored}) == 1
    assert sum(each.created for each in stored) == 1
    assert counts(engine) == (1, 1)


def test_a_key_whose_transaction_rolled_back_is_free_again(engine: Engine) -> None:
    with Session(engine) as session:
        enqueue(session, "order-import", order("SO-1"), channel="web", idempotency_key="k")
        session.rollback()
    with engine.begin() as connection:
        assert enqueue(connection, "order-import", order("SO-2"), channel="web", idempotency_key="k").created


def test_two_destinations_may_share_a_key(engine: Engine) -> None:
    with engine.begin() as connection:
        first, second = (
            enqueue(
                connection, "order-import", order(name), channel="web", idempotency_key="k", destination=name
            )
            for name in ("main", "second")
        )
    assert first.created
    assert second.created
    assert counts(engine) == (2, 2)


def test_a_repeat_is_looked_for_at_its_own_destination(engine: Engine) -> None:
    given: dict[str, Any] = {"channel": "web", "idempotency_key": "k"}
    with engine.begin() as connection:
        enqueue(connection, "order-import", order("SO-1"), destination="main", **given)
        second = enqueue(connection, "order-import", order("SO-2"), destination="second", **given)
        again = enqueue(connection, "order-import", order("SO-2"), destination="second", **given)
    assert (again.id, again.created) == (second.id, False)


def test_a_replay_does_not_hide_the_message_that_holds_the_key(engine: Engine) -> None:
    given: dict[str, Any] = {"payload": order("SO-1"), "channel": "web"}
    with engine.begin() as connection:
        first = enqueue(connection, "order-import", **given, idempotency_key="k")
        replay = enqueue(connection, "order-import", **given, idempotency_key="k-2")
        # What a replay leaves: its origin's key beside its origin's id.
        connection.execute(
            update(message).where(message.c.id == replay.id).values(idempotency_key="k", replay_of=first.id)
        )
        again = enqueue(connection, "order-import", **given, idempotency_key="k")
    assert (again.id, again.created) == (first.id, False)


# Refusals

LETTERS = "abcdefghijkl"
BOMB = (
    '<!DOCTYPE imports [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {letter} "{f"&{before};" * 10}">' for before, letter in pairwise(LETTERS))
    + "]><imports><import>&l;</import></imports>"
)


def imports(attributes: str = "", content: str = "") -> str:
    return f"<imports><import {attributes}>{content}</import></imports>"


PAYLOADS = {
    "missing": None,
    "empty text": "",
    "empty bytes": b"",
    "blank": " \n ",
    "no xml": "state=created",
    "not well-formed": "<imports><import></imports>",
    "cut": order("SO-1")[:-5],
    "something after the root": order("SO-1") + "<imports/>",
    "an undefined entity": imports(content="&nbsp;"),
    "a doctype": "<!DOCTYPE imports><imports><import/></imports>",
    "an external entity": '<!DOCTYPE imports [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    + imports(content="&x;"),
    "an entity bomb": BOMB,
    "another root": "<orders><import/></orders>",
    "no import": "<imports/>",
    "something else than an import": "<imports><order/></imports>",
    "a capital first letter": imports(content="<Order/>"),
    "a capital root": "<Imports><import/></Imports>",
    "a hyphen": imports(content="<order-line/>"),
    "an underscore": imports(content="<order_line/>"),
    "a digit is fine, a leading underscore not": imports(content="<_line1/>"),
    "a prefix": imports(content="<a:line xmlns:a='urn:a'/>"),
    "a capital attribute": imports('Type="order"'),
    "an attribute with a hyphen": imports('external-reference="1"'),
    "an attribute with an underscore": imports('external_reference="1"'),
    "too deep": imports(content="<a>" * MAX_DEPTH + "</a>" * MAX_DEPTH),
    "a lone surrogate": imports(content="\ud800"),
    "nul": imports(content="\x00"),
    "a control character": imports(content="\x0b"),
    "bytes that are no UTF-8": imports(content="Zoë").encode("latin-1"),
    "another encoding, declared": ('<?xml version="1.0" encoding="ISO-8859-1"?>' + imports()).encode(
        "latin-1"
    ),
    "UTF-16 with a mark": imports().encode("utf-16"),
    "UTF-16 without a mark": ('<?xml version="1.0" encoding="UTF-16"?>' + imports()).encode("utf-16-le"),
    "an object": object(),
    "a bytearray": bytearray(b"<imports><import/></imports>"),
}


@on_sqlite
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_a_payload_that_orderflow_could_not_take_is_refused(engine: Engine, payload: Any) -> None:
    refused(engine, InvalidPayload, "payload", payload=payload)


def test_an_entity_bomb_is_refused_at_once(engine: Engine) -> None:
    began = time.perf_counter()
    refused(engine, InvalidPayload, "payload", payload=BOMB)
    assert time.perf_counter() - began < 0.5


def test_a_payload_of_just_the_largest_size_is_taken_and_one_byte_more_refused(engine: Engine) -> None:
    room = MAX_PAYLOAD_BYTES - len(imports())
    with engine.begin() as connection:
        enqueue(connection, "order-import", imports(content="x" * room), channel="web")
    refused(engine, PayloadTooLarge, "payload", payload=imports(content="x" * (room + 1)))


def test_the_size_is_that_of_the_bytes_not_of_the_characters(engine: Engine) -> None:
    half = MAX_PAYLOAD_BYTES // 2
    refused(engine, PayloadTooLarge, "payload", payload=imports(content="ë" * half))


@on_sqlite
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Trace", "a\nb"),
        ("X-Trace", "a\r\nHost: evil"),
        ("X-Trace", "a\x00"),
        ("X-Trace\n", "a"),
        ("X Trace", "a"),
        ("X-Trace:", "a"),
        ("", "a"),
        ("X-Trace", "Zoë"),
        ("X-Trace", 7),
        ("Authorization", "Basic Zm9v"),
        ("authorization", "Basic Zm9v"),
        ("Host", "evil"),
        ("Content-Length", "0"),
        ("Content-Type", "text/plain"),
        ("Transfer-Encoding", "chunked"),
        ("Idempotency-Key", "k"),
        ("user", "u"),
        ("password", "p"),
        ("channel", "c"),
        ("organisation", "o"),
    ],
)
def test_a_header_that_cannot_be_sent_or_is_the_services_own_is_refused(
    engine: Engine, name: str, value: Any
) -> None:
    refused(engine, InvalidHeader, "headers", headers={name: value})


@on_sqlite
@pytest.mark.parametrize(
    ("kind", "field", "given"),
    [
        (UnknownOperation, "operation", {"operation": "order-export"}),
        (UnknownOperation, "operation", {"operation": None}),
        (MissingScope, "channel", {"channel": None}),
        (MissingScope, "channel", {"channel": None, "organisation": "acme"}),
        (MissingScope, "organisation", {"operation": "product-import"}),
        (InvalidMessage, "channel", {"channel": ""}),
        (InvalidMessage, "channel", {"channel": " web"}),
        (InvalidMessage, "channel", {"channel": "wéb"}),
        (InvalidMessage, "channel", {"channel": "web\r\nHost: evil"}),
        (InvalidMessage, "organisation", {"organisation": "a\x00"}),
        (InvalidMessage, "destination", {"destination": ""}),
        (InvalidMessage, "destination", {"destination": "Main"}),
        (InvalidMessage, "destination", {"destination": "../main"}),
        (InvalidMessage, "destination", {"destination": None}),
        (InvalidMessage, "key", {"key": ""}),
        (InvalidMessage, "key", {"key": "k" * (MAX_REFERENCE_CHARACTERS + 1)}),
        (InvalidMessage, "key", {"key": "a\nb"}),
        (InvalidMessage, "key", {"key": "\ud800"}),
        (InvalidMessage, "idempotency_key", {"idempotency_key": ""}),
        (InvalidMessage, "idempotency_key", {"idempotency_key": "é"}),
        (InvalidMessage, "idempotency_key", {"idempotency_key": "k "}),
        (InvalidMessage, "version", {"version": -1}),
        (InvalidMessage, "version", {"version": 2**63}),
        (InvalidMessage, "version", {"version": True}),
        (InvalidMessage, "version", {"version": "1"}),
        (InvalidMessage, "query['a']", {"query": {"a": 1}}),
        (InvalidMessage, "query['a']", {"query": {"a": "\x00"}}),
        (InvalidMessage, "query", {"query": "a=1"}),
        (InvalidMessage, "query", {"query": {"a": "x" * 5000}}),
        (InvalidHeader, "headers", {"headers": [("a", "b")]}),
        (InvalidHeader, "headers", {"headers": {"X-A": "x" * 9000}}),
        (InvalidMessage, "deliver_after", {"deliver_after": datetime(2030, 1, 1)}),
        (InvalidMessage, "deliver_after", {"deliver_after": "2030-01-01"}),
        (InvalidMessage, "expires_at", {"expires_at": datetime(2030, 1, 1)}),
        (InvalidMessage, "expires_at", {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}),
        (InvalidMessage, "expires_at", {"expires_at": SOON, "deliver_after": LATER}),
        (InvalidPayload, "payload", {"operation": "order-cancel", "query": {"externalReference": "SO-1"}}),
        (InvalidMessage, "query['externalReference']", {"operation": "order-cancel", "payload": None}),
        (
            InvalidMessage,
            "query['externalReference']",
            {"operation": "order-cancel", "payload": None, "query": {"externalReference": ""}},
        ),
        (
            InvalidMessage,
            "query['action']",
            {
                "operation": "order-update",
                "payload": None,
                "query": {"thirdPartyReference": "1", "event": "order.created"},
            },
        ),
        (InvalidPayload, "payload", {"operation": "return-import", "organisation": "acme"}),
    ],
)
def test_an_argument_that_cannot_stand_is_refused(
    engine: Engine, kind: type[InvalidMessage], field: str, given: dict[str, Any]
) -> None:
    refused(engine, kind, field, **given)


def refused(engine: Engine, kind: type[InvalidMessage], field: str, **given: Any) -> None:
    """Assert that an order with `given` is refused, with a reason to act on, and leaves nothing."""
    before = counts(engine)
    arguments = {"operation": "order-import", "payload": order("SO-1"), "channel": "web", **given}
    with engine.begin() as connection, pytest.raises(InvalidMessage) as caught:
        enqueue(connection, **arguments)
    error = caught.value
    assert type(error) is kind
    assert error.field == field or error.field.startswith(f"{field}[")
    assert isinstance(error.value, str)
    assert len(error.value) <= 80
    assert error.fix
    assert str(error) == f"{error.field} is {error.value}: {error.fix}"
    assert isinstance(error, ValueError)
    assert counts(engine) == before


def test_a_refusal_names_the_line_of_a_name_against_the_interface(engine: Engine) -> None:
    with engine.begin() as connection, pytest.raises(InvalidPayload, match="line 3") as caught:
        enqueue(connection, "order-import", "<imports>\n<import>\n<Order/></import></imports>", channel="web")
    assert caught.value.value == "'Order'"


def test_a_refusal_leaves_the_shops_own_transaction_usable(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        with pytest.raises(InvalidMessage):
            enqueue(session, "order-import", "", channel="web")
        enqueue(session, "order-import", order("SO-1"), channel="web")
    assert counts(engine) == (1, 1)


# Many at once


def new(reference: str, **more: Any) -> NewMessage:
    return NewMessage("order-import", order(reference), channel="web", **more)


def test_many_are_stored_in_the_order_given(engine: Engine) -> None:
    with engine.begin() as connection:
        stored = enqueue_many(connection, [new(f"SO-{n}", key=f"order:SO-{n}") for n in range(20)])
    assert [each.key for each in stored] == [f"order:SO-{n}" for n in range(20)]
    assert [each.id for each in stored] == sorted(each.id for each in stored)
    assert counts(engine) == (20, 20)


def test_none_of_many_is_stored_when_one_is_refused_and_its_place_is_named(engine: Engine) -> None:
    bad = NewMessage("order-import", order("SO-3"))
    with engine.begin() as connection, pytest.raises(MissingScope) as caught:
        enqueue_many(connection, [new("SO-1"), new("SO-2"), bad, NewMessage("nonsense")])
    assert (caught.value.place, caught.value.field) == (2, "channel")
    assert str(caught.value).startswith("messages[2].channel is None: ")
    assert caught.value.fix
    assert counts(engine) == (0, 0)


def test_none_of_many_is_stored_when_one_has_a_taken_key_and_the_shop_goes_on(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        enqueue(session, "order-import", order("SO-1"), channel="web", idempotency_key="k")
        with pytest.raises(IdempotencyConflict):
            enqueue_many(session, [new("SO-2"), new("SO-3", idempotency_key="k")])
    assert counts(engine) == (1, 1)


def test_many_may_repeat_what_is_stored_already(engine: Engine) -> None:
    with engine.begin() as connection:
        stored = enqueue_many(
            connection, [new("SO-1", idempotency_key="k"), new("SO-1", idempotency_key="k")]
        )
    assert [each.created for each in stored] == [True, False]
    assert counts(engine) == (1, 1)


def test_no_messages_at_all_are_no_error(engine: Engine) -> None:
    with engine.begin() as connection:
        assert enqueue_many(connection, []) == []


# The operations

IMPORTS = ("imports", Answer.IMPORT_RESULT)
SENTENCE = (None, Answer.TEXT)


@pytest.mark.parametrize(
    ("name", "path", "scope", "body_and_answer"),
    [
        ("order-import", "remoteorder/imports/importitems.xml", "channel", IMPORTS),
        ("product-import", "remotewarehouse/imports/importitems.xml", "organisation", IMPORTS),
        ("return-import", "remotewarehouse/imports/importitems.xml", "organisation", IMPORTS),
        ("stock-move-import", "remotewarehouse/imports/importitems.xml", "organisation", IMPORTS),
        ("order-cancel", "remoteorder/order/cancel.xml", "channel", SENTENCE),
        ("order-update", "remoteorder/order/update.xml", "channel", SENTENCE),
        ("product-update", "remotewarehouse/product/update.xml", "organisation", SENTENCE),
    ],
)
def test_every_operation_that_changes_orderflow_is_predefined(
    name: str, path: str, scope: str, body_and_answer: tuple[str | None, Answer]
) -> None:
    operation = PREDEFINED[name]
    assert (operation.path, operation.scope) == (path, scope)
    assert (operation.body_root, operation.answer) == body_and_answer
    assert operation.when_dead is WhenDead.WAIT


def test_imports_of_a_fixed_type_take_no_other() -> None:
    assert {name: each.import_type for name, each in PREDEFINED.items() if each.import_type} == {
        "return-import": "return",
        "stock-move-import": "stockMoveTask",
    }


@pytest.mark.parametrize("name", ["Order-import", "order_import", "order-", "", "order import"])
def test_an_operation_has_a_name_of_words_joined_by_hyphens(name: str) -> None:
    with pytest.raises(InvalidOperation, match="lower-case words"):
        Operation(name, "a.xml", Scope.CHANNEL)


@pytest.mark.parametrize("path", ["", "/a.xml", "a.xml?b=c"])
def test_an_operation_has_a_path_below_the_instance(path: str) -> None:
    with pytest.raises(InvalidOperation, match="leading slash"):
        Operation("a", path, Scope.CHANNEL)


# SQLite, as a shop prepares it


def test_a_prepared_sqlite_is_durable_and_waits_for_other_writers(tmp_path: Path) -> None:
    engine = prepare(create_engine(f"sqlite:///{tmp_path}/shop.db"))
    with engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    engine.dispose()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10000}


def test_a_writer_goes_on_within_a_moment_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = prepare(create_engine(f"sqlite:///{tmp_path}/shop.db"))
    slept = []
    with engine.connect() as first:
        before = first.begin()

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 100:  # by then SQLite itself would look ten times a second
                before.commit()

        monkeypatch.setattr("orderflow_outbox.sqlite.time.sleep", sleep)
        with engine.begin() as second:
            assert second.exec_driver_sql("PRAGMA busy_timeout").scalar() == 10_000
    engine.dispose()
    assert slept == [0.001] * 100


def test_a_second_transaction_on_a_shared_connection_is_refused() -> None:
    engine = prepare(create_engine("sqlite://", poolclass=StaticPool))
    with engine.connect() as first, engine.connect() as second, first.begin():
        with pytest.raises(OperationalError, match="within a transaction"):
            second.begin()
        assert first.exec_driver_sql("PRAGMA busy_timeout").scalar() == 10_000
    engine.dispose()


def test_a_connection_that_was_lost_is_told_in_the_words_of_sqlalchemy(tmp_path: Path) -> None:
    engine = prepare(create_engine(f"sqlite:///{tmp_path}/shop.db"))
    with engine.connect() as connection:
        assert connection.connection.driver_connection is not None
        connection.connection.driver_connection.close()
        with pytest.raises(DBAPIError, match="closed database"):
            connection.begin()
    engine.dispose()


def test_a_writer_waits_for_another_as_long_as_its_connection_says(tmp_path: Path) -> None:
    engine = prepare(create_engine(f"sqlite:///{tmp_path}/shop.db"))
    with engine.connect() as first, engine.connect() as second:
        second.exec_driver_sql("PRAGMA busy_timeout = 5")
        second.rollback()
        with first.begin(), pytest.raises(OperationalError, match="database is locked"):
            second.begin()
        with second.begin():
            assert second.exec_driver_sql("PRAGMA busy_timeout").scalar() == 5
    engine.dispose()


def test_a_transaction_that_reads_first_can_still_enqueue_when_another_came_along(engine: Engine) -> None:
    def other_shop() -> None:
        with engine.begin() as connection:
            enqueue(connection, "order-import", order("SO-2"), channel="web")

    other = threading.Thread(target=other_shop)
    with engine.begin() as connection:
        connection.execute(select(message.c.id)).all()
        other.start()
        other.join(0.3)  # it must wait for this transaction; if it need not, it has come in between now
        enqueue(connection, "order-import", order("SO-1"), channel="web")
    other.join(10)
    assert counts(engine) == (2, 2)


@pytest.mark.parametrize("name", ["Authorization", "password", "Cookie"])
def test_a_credential_given_as_a_header_is_refused_without_being_repeated(engine: Engine, name: str) -> None:
    with engine.begin() as connection, pytest.raises(InvalidHeader) as refused:
        enqueue(connection, "order-import", order("SO-1"), channel="web", headers={name: "CANARY"})
    assert "CANARY" not in str(refused.value)


@pytest.mark.parametrize("name", ["user", "password", "channel", "organisation"])
def test_no_query_parameter_can_take_the_place_of_what_the_service_sends(engine: Engine, name: str) -> None:
    with engine.begin() as connection, pytest.raises(InvalidMessage) as refused:
        enqueue(connection, "order-import", order("SO-1"), channel="web", query={name: "CANARY"})
    assert refused.value.field == f"query[{name!r}]"
    assert "CANARY" not in str(refused.value)
