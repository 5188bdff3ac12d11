"""Rows reach PostgreSQL in texts as they are: whatever a message may hold, and however many there are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import BigInteger, Engine, Integer, LargeBinary, String, select

from orderflow_outbox import NewMessage, enqueue_many
from orderflow_outbox.storing import on_postgresql as storing
from orderflow_outbox.storing.in_texts import as_texts, rows_in_texts
from orderflow_outbox.tables import message, unindexed
from orderflow_outbox.types import UtcDateTime
from tests.databases import on_postgresql
from tests.documents import order

TYPES = {
    "nth": Integer(),
    "word": String(),
    "number": BigInteger(),
    "bytes": LargeBinary(),
    "moment": UtcDateTime(),
}
ROWS: list[dict[str, Any]] = [
    {"word": "", "number": None, "bytes": b"", "moment": None},
    {"word": None, "number": 2**63 - 1, "bytes": None, "moment": datetime(2026, 11, 1, 9, 30, 0, 1, UTC)},
    {"word": "NULL", "number": 0, "bytes": bytes(range(256)), "moment": None},
    {
        "word": "{\"a\\\x1fé\n\t,'};%s:x",
        "number": -1,
        "bytes": b"\x1e\x1d",
        "moment": datetime(2026, 11, 1, 9, 30, tzinfo=timezone(timedelta(hours=-7))),
    },
    {"word": "", "number": 1, "bytes": b"\\x00", "moment": datetime(9999, 12, 31, tzinfo=UTC)},
]


@on_postgresql
@pytest.mark.parametrize("rows", [ROWS, ROWS[:2], [ROWS[0], ROWS[0]], [ROWS[1], ROWS[1]]])
def test_values_arrive_as_they_are(engine: Engine, rows: list[dict[str, Any]]) -> None:
    numbered = [{"nth": place, **row} for place, row in enumerate(rows)]
    given = rows_in_texts("given", TYPES)
    with engine.connect() as connection:
        found = connection.execute(select(given).order_by(given.c.nth), as_texts(TYPES, numbered)).mappings()
        assert [dict(row) for row in found] == numbered


@pytest.mark.parametrize("word", ["\x1e", "a\x1eb"])
def test_a_value_with_the_character_between_values_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="word"):
        as_texts({"word": String()}, [{"word": "a"}, {"word": word}])


@on_postgresql
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_each_is_stored_however_many_are_left_for_the_last_statement(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(storing, "MESSAGES_PER_STATEMENT", 2)
    given = [
        NewMessage("order-import", order(""), channel="web", idempotency_key=f"k-{n}") for n in range(count)
    ]
    with engine.begin() as connection:
        stored = enqueue_many(connection, given)
    assert [each.idempotency_key for each in stored] == [each.idempotency_key for each in given]
    with engine.connect() as connection:
        ids = connection.scalars(select(message.c.id).order_by(message.c.id)).all()
        assert ids == [each.id for each in stored]
        assert sorted(connection.scalars(select(unindexed.c.message_id))) == ids
