"""Messages are stored where the shop's SQLAlchemy is told that the tables are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, func, select

from orderflow_outbox import enqueue
from orderflow_outbox.storing import by_driver
from orderflow_outbox.storing.by_driver import Driver, DriverStatement
from orderflow_outbox.tables import body, message, metadata, unindexed
from tests.documents import order


def shop(connection: Connection, number: str) -> int:
    """Enqueue an order and return the number of its message."""
    return enqueue(connection, "order-import", order(number), channel="web", key="order:SO-1").id


@pytest.fixture
def elsewhere(engine: Engine) -> Iterator[Connection]:
    """A connection on which the tables of a schema `shop` stand for the usual ones."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.execute("ATTACH ':memory:' AS shop")
        else:
            connection.exec_driver_sql("CREATE SCHEMA shop")
        connection.execution_options(schema_translate_map={None: "shop"})
        metadata.create_all(connection)
        yield connection
        connection.rollback()


def test_a_message_is_stored_in_the_schema_that_stands_for_the_usual_one(
    engine: Engine, elsewhere: Connection
) -> None:
    first, second = shop(elsewhere, "SO-1"), shop(elsewhere, "SO-2")
    assert elsewhere.execute(select(message.c.id, message.c.position)).all() == [
        (first, first),
        (second, second),
    ]
    assert elsewhere.scalar(select(func.count()).select_from(body)) == 2
    assert set(elsewhere.scalars(select(unindexed.c.message_id))) == {first, second}
    with engine.connect().execution_options(outbox_reads_only=True) as usual:
        assert usual.scalar(select(func.count()).select_from(message)) == 0


def test_positions_are_counted_by_the_schemas_own_messages(engine: Engine, elsewhere: Connection) -> None:
    elsewhere.commit()
    with engine.begin() as usual:
        shop(usual, "SO-1")
        shop(usual, "SO-2")
    first = shop(elsewhere, "SO-3")
    assert elsewhere.execute(select(message.c.id, message.c.position)).all() == [(first, first)]


def test_the_words_of_very_many_schemas_are_not_kept(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_driver, "_MOST_SCHEMAS", 3)
    statement = DriverStatement(select(message.c.id))
    with engine.connect() as connection:
        for number in range(10):
            connection.execution_options(schema_translate_map={None: f"shop_{number}"})
            with Driver(connection) as driver:
                assert f"shop_{number}" in driver._in_words(statement).text
        assert 0 < len(by_driver._written[engine.dialect]) <= 3
