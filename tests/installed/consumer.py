"""A shop's program that uses every public name, for type checkers to pass; it is never run."""

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Event
from typing import assert_never, assert_type

from sqlalchemy import Connection, Engine, MetaData, create_engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from orderflow_outbox import (
    PREDEFINED,
    Answer,
    Catalogue,
    Hints,
    IdempotencyConflict,
    Import,
    InvalidBroker,
    InvalidHeader,
    InvalidMessage,
    InvalidOperation,
    InvalidPayload,
    InvalidQuestion,
    Message,
    Method,
    MissingScope,
    Naming,
    NewMessage,
    NotASession,
    NotTransactional,
    Operation,
    Order,
    OutboxError,
    PayloadTooLarge,
    Product,
    Resolution,
    Return,
    Scope,
    State,
    Status,
    StockMove,
    UnknownOperation,
    UnsupportedDatabase,
    UnsupportedSchema,
    WhenDead,
    borrowed,
    ddl,
    enqueue,
    enqueue_many,
    hint_after_commit,
    imports,
    metadata,
    read_imports,
    status_of,
)
from orderflow_outbox.sqlite import prepare
from orderflow_outbox.testing import Enqueued, assert_enqueued, enqueued, memory_database

DOCUMENT = '<imports><import type="order" externalReference="1">state=created</import></imports>'
ENGINE = prepare(create_engine("sqlite:///shop.db"))
assert_type(ENGINE, Engine)
assert_type(metadata, MetaData)


def sell(engine: Engine) -> list[Message]:
    now = datetime.now(UTC)
    with Session(engine) as session, session.begin():
        message = enqueue(
            session,
            "order-import",
            DOCUMENT.encode(),
            destination="main",
            channel="web",
            organisation=None,
            key="order:1",
            idempotency_key="order-import:1",
            version=3,
            query={"externalReference": "1"},
            headers={"X-Trace": "a"},
            deliver_after=now,
            expires_at=now + timedelta(days=1),
            catalogue=PREDEFINED,
        )
    assert_type(message, Message)
    with engine.begin() as connection:
        cancel = enqueue(connection, "order-cancel", query={"externalReference": "1"}, channel="web")
        new = (NewMessage("order-import", DOCUMENT, channel="web", key=f"order:{n}") for n in range(2))
        many = enqueue_many(connection, new, catalogue=PREDEFINED)
    assert_type(many, list[Message])
    return [message, cancel, *many]


async def sell_without_blocking(session: AsyncSession, connection: AsyncConnection) -> None:
    assert_type(await session.run_sync(enqueue, "order-import", DOCUMENT, channel="web"), Message)
    assert_type(await connection.run_sync(enqueue_many, [NewMessage("order-cancel")]), list[Message])


def look_at(message: Message) -> tuple[int, bool]:
    assert_type(message.state, State)
    assert_type(message.key, str | None)
    assert_type(message.version, int | None)
    assert_type(message.due_at, datetime | None)
    assert_type(message.created_at, datetime)
    return message.id, message.created


def write(placed: datetime) -> bytes:
    lines = [{"product": {"externalReference": "SKU-1"}, "quantity": 2}]
    order = Order("SO-1", {"placed": placed, "totalPriceGross": Decimal("24.00"), "orderLine": lines})
    assert_type(read_imports(imports([order])), list[Import])
    assert_type(order.fields, Mapping[str, str])
    items = [Product("SKU-1", {"name": "chair"}), Return("R-1", {}), StockMove("M-1", {})]
    return imports([order, {"type": "order", "state": "created"}]) + imports(items)


def look(session: Session, connection: Connection) -> str:
    found = status_of(session, idempotency_key="order-import:1")
    assert_type(found, Status | None)
    if found is None:
        return "unknown"
    assert_type(found.next_try_at, datetime | None)
    assert_type(status_of(connection, 7), Status | None)
    return f"{found.state}: {found.reason}"


def sell_without_sqlalchemy(shop: sqlite3.Connection) -> Message:
    with borrowed(shop) as outbox:
        assert_type(outbox, Connection)
        return enqueue(outbox, "order-import", DOCUMENT, channel="web")


def prove(session: Session) -> Enqueued:
    assert_type(memory_database(), Engine)
    assert_type(enqueued(session), list[Enqueued])
    assert_type(ddl("postgresql"), list[str])
    return assert_enqueued(session, "order-import", key="order:1")


def wake(engine: Engine) -> int:
    hints = hint_after_commit(engine, Event().set)
    assert_type(hints, Hints)
    assert_type(hint_after_commit(engine, "redis://broker/0"), Hints)
    hints.hint()
    return hints.sent + hints.suppressed + hints.failed


def operations() -> Catalogue:
    own = Operation(
        "price-import",
        "remotewarehouse/imports/importitems.xml",
        Scope.ORGANISATION,
        body_root="imports",
        import_type="price",
        query={"mode": "full"},
        required_query=("list",),
        answer=Answer.IMPORT_RESULT,
        when_dead=WhenDead.PASS,
        method=Method.PUT,
        naming=Naming.ANY,
        key="list:{list}",
        supersedes=("price-import",),
    )
    assert_type(Catalogue.load("operations.toml"), Catalogue)
    known = Catalogue([*PREDEFINED.values(), own])
    assert_type(known["price-import"], Operation)
    assert_type(known.find("price-import").scope, Scope | None)
    return known


def explain(error: OutboxError) -> str:
    match error:
        case UnknownOperation() | InvalidPayload() | PayloadTooLarge() | InvalidHeader() | MissingScope():
            return assert_type(error.fix, str)
        case InvalidMessage():
            assert_type(error.place, int | None)
            return f"{error.field} {error.value}"
        case IdempotencyConflict():
            assert_type(error.differs, tuple[str, ...])
            return f"{error.idempotency_key} {assert_type(error.message_id, int)}"
        case NotASession():
            return error.found
        case InvalidOperation():
            return f"{error.file}: {error.field}"
        case UnsupportedSchema():
            return str(assert_type(error.found, int | None))
        case NotTransactional() | UnsupportedDatabase() | InvalidBroker() | InvalidQuestion():
            return str(error)
        case _:
            return "another"


def in_words(state: State) -> str:
    match state:
        case State.PENDING | State.SENDING:
            return "on its way"
        case State.DELIVERED:
            return "there"
        case State.DEAD | State.SUPERSEDED | State.CANCELLED:
            return "ended"
        case _:
            assert_never(state)


def closed(resolution: Resolution) -> bool:
    return resolution is not Resolution.OPEN
