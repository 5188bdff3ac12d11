"""Wrong calls of the library: a type checker reports each line marked so, and no other. Never run."""

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from orderflow_outbox import (
    Catalogue,
    Hints,
    InvalidMessage,
    Message,
    NewMessage,
    Operation,
    OutboxError,
    State,
    enqueue,
    enqueue_many,
    hint_after_commit,
    imports,
    read_imports,
    status_of,
)
from orderflow_outbox.sqlite import prepare


def sell(session: Session, maybe: Session | None) -> None:
    enqueue("sqlite:///shop.db", "order-import", "<imports/>")  # wrong
    enqueue(maybe, "order-import", "<imports/>")  # wrong
    enqueue(session)  # wrong
    enqueue(session, 7, "<imports/>")  # wrong
    enqueue(session, "order-import", {"state": "created"})  # wrong
    enqueue(session, "order-import", "<imports/>", "main")  # wrong
    enqueue(session, "order-import", "<imports/>", priority=1)  # wrong
    enqueue(session, "order-import", "<imports/>", version="3")  # wrong
    enqueue(session, "order-cancel", query={"externalReference": 1})  # wrong
    enqueue(session, "order-import", "<imports/>", deliver_after="tomorrow")  # wrong
    enqueue(session, "order-import", "<imports/>", catalogue={"order-import": 1})  # wrong
    enqueue_many(session, NewMessage("order-import"))  # wrong
    enqueue_many(session, ["order-import"])  # wrong
    NewMessage(payload="<imports/>")  # wrong


async def sell_without_blocking(session: AsyncSession) -> int:
    await session.run_sync(enqueue, 7)  # wrong
    return await session.run_sync(enqueue, "order-import")  # wrong


def look_at(message: Message) -> str:
    message.state = State.DELIVERED  # wrong
    assert message.payload  # wrong
    assert State.LOST  # wrong
    return message.id  # wrong


def wake(engine: Engine) -> Hints:
    prepare("sqlite:///shop.db")  # wrong
    hint_after_commit(engine, 7)  # wrong
    hint_after_commit(engine, lambda message: message)  # wrong
    return hint_after_commit(engine)  # wrong


def look(session: Session) -> str:
    status_of(session, key=7)  # wrong
    imports("<imports/>")  # wrong
    read_imports("<imports/>")  # wrong
    return status_of(session, 1).reason  # wrong


def operations() -> Catalogue:
    Operation("price-import", "imports.xml", "organisation")  # wrong
    return Catalogue(["price-import"])  # wrong


def explain(error: OutboxError, refusal: InvalidMessage) -> int:
    assert error.field  # wrong
    return refusal.fix  # wrong
