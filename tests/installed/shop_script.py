"""A shop with nothing but the installed library: it stores orders, takes one back, and tells what it runs on.

python shop_script.py DATABASE_URL
"""

import json
import sys
from collections.abc import Callable
from importlib import import_module, metadata

import sqlalchemy
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import Session

import orderflow_outbox
from orderflow_outbox import (
    PREDEFINED,
    Catalogue,
    IdempotencyConflict,
    InvalidPayload,
    NewMessage,
    Operation,
    Order,
    OutboxError,
    State,
    ddl,
    enqueue,
    enqueue_many,
    hint_after_commit,
    imports,
    read_imports,
    status_of,
)
from orderflow_outbox.sqlite import prepare
from orderflow_outbox.testing import assert_enqueued, enqueued, memory_database


def document(number: str) -> str:
    return f'<imports><import type="order" externalReference="{number}">state=created</import></imports>'


def stored(engine: Engine) -> list[str]:
    """Return the keys of the messages that another connection sees."""
    message = orderflow_outbox.metadata.tables["outbox_message"]
    with engine.connect() as connection:
        return list(connection.scalars(select(message.c.key).order_by(message.c.id)))


def sell(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        first = enqueue(session, "order-import", document("1"), channel="web", key="1", idempotency_key="i")
        again = enqueue(session, "order-import", document("1"), channel="web", key="1", idempotency_key="i")
        assert (first.created, again.created, again.id) == (True, False, first.id)
        assert first.state is State.PENDING
    with engine.begin() as connection:
        new = [NewMessage("order-import", document(n), channel="web", key=n) for n in ("2", "3")]
        assert [message.key for message in enqueue_many(connection, new)] == ["2", "3"]


def ask(engine: Engine) -> None:
    with Session(engine) as session:
        for how in ({"key": "1"}, {"idempotency_key": "i"}):
            found = status_of(session, **how)
            assert found is not None
            assert (found.state, found.reason) == (State.PENDING, "it is about to be sent")


def test_itself() -> None:
    """Use what the library has for a shop's own tests, and an operation that replaces its elders."""
    counting = Operation(
        "stock-count", "count.xml", None, "imports", key="{sku}", supersedes=("stock-count",)
    )
    own = Catalogue([*PREDEFINED.values(), counting])
    engine = memory_database()
    with engine.begin() as connection:
        written = imports([Order("1", {"state": "created"})])
        enqueue(connection, "order-import", written, channel="web", key="order:1")
        assert assert_enqueued(connection, "order-import", key="order:1").imports == read_imports(written)
        for _ in range(2):
            enqueue(connection, "stock-count", written, query={"sku": "chair"}, catalogue=own)
        counts = enqueued(connection, "stock-count")
        assert [each.state for each in counts] == [State.SUPERSEDED, State.PENDING]
    for database in ("sqlite", "postgresql"):
        assert ddl(database)


def take_back(engine: Engine) -> None:
    with Session(engine) as session:
        enqueue(session, "order-import", document("4"), channel="web", key="4")
        session.rollback()


def refusal(act: Callable[[], object]) -> OutboxError:
    try:
        act()
    except OutboxError as error:
        return error
    raise AssertionError("it was accepted")


def be_refused(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        wrong = refusal(lambda: enqueue(session, "order-import", "<imports/>", channel="web"))
        assert isinstance(wrong, InvalidPayload)
        other = refusal(
            lambda: enqueue(session, "order-import", document("5"), channel="web", idempotency_key="i")
        )
        assert isinstance(other, IdempotencyConflict)
        assert other.differs == ("key", "payload")


def main() -> None:
    engine = create_engine(sys.argv[1])
    if engine.dialect.name == "sqlite":
        prepare(engine)
    woken: list[bool] = []
    hints = hint_after_commit(engine, lambda: woken.append(True))
    sell(engine)
    take_back(engine)
    be_refused(engine)
    ask(engine)
    test_itself()
    assert stored(engine) == ["1", "2", "3"]
    assert hints.sent + hints.suppressed == 2
    assert woken
    engine.dispose()
    told = {
        "sqlalchemy": sqlalchemy.__version__,
        "distributions": [each.name for each in metadata.distributions()],
        "files": {name: import_module(name).__file__ for name in ("config", "tasks", "worker")},
        "library": orderflow_outbox.__file__,
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
