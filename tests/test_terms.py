"""The words a message is found by: lifted when it is enqueued, left with it for the index, never costly."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import Engine, select

from orderflow_outbox import IdempotencyConflict, NewMessage, enqueue, enqueue_many
from orderflow_outbox.catalogue import PREDEFINED
from orderflow_outbox.documents import MAX_PAYLOAD_BYTES, ImportFound, read_document
from orderflow_outbox.tables import unindexed
from orderflow_outbox.terms import MAX_TERMS, pairs_of, terms_of
from tests.documents import order

Terms = set[tuple[str, str]]


def document(*lines: str, **attributes: str) -> str:
    given = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f"<imports><import{given}><![CDATA[{chr(10).join(lines)}]]></import></imports>"


def stored(engine: Engine) -> list[tuple[int, str, str]]:
    with engine.connect() as connection:
        rows = connection.execute(select(unindexed).order_by(unindexed.c.message_id)).all()
    return [(row.message_id, name, value) for row in rows for name, value in pairs_of(row.terms)]


ORDER = document(
    "state=created",
    "orderLine.1.product.externalReference=SKU-1",
    "orderLine.2.product.externalReference = SKU-2 \r",
    "orderLine.3.product.externalReference=SKU-1",
    "orderLine.3.sku=SKU-3",
    "  orderNumber=SO-1001/A",
    "shipment.externalReference=SO-1001_S1",
    "note=the sku=SKU-9 of old",
    "mysku=SKU-8",
    "sku=",
    type="order",
    externalReference="SO-1001",
)
RETURN = document(
    "order.externalReference=SO-7",
    "returnLine.1.product.externalReference=SKU-5",
    type="return",
    externalReference="R-1",
)
SKU_1 = {("externalReference", "SKU-1"), ("sku", "SKU-1")}


@pytest.mark.parametrize(
    ("operation", "arguments", "expected"),
    [
        (
            "order-import",
            {"payload": ORDER, "channel": "web"},
            {
                ("externalReference", "SO-1001"),
                ("orderNumber", "SO-1001"),
                ("orderNumber", "SO-1001/A"),
                ("sku", "SKU-1"),
                ("sku", "SKU-2"),
                ("sku", "SKU-3"),
            },
        ),
        (
            "product-import",
            {"payload": document(type="product", externalReference="SKU-1"), "organisation": "acme"},
            SKU_1,
        ),
        (
            "return-import",
            {"payload": RETURN, "organisation": "acme"},
            {("externalReference", "R-1"), ("orderNumber", "SO-7"), ("sku", "SKU-5")},
        ),
        (
            "stock-move-import",
            {
                "payload": document(
                    "product.externalReference=SKU-1", type="stockMoveTask", externalReference="M"
                ),
                "organisation": "acme",
            },
            {("externalReference", "M"), ("sku", "SKU-1")},
        ),
        (
            "order-cancel",
            {"query": {"externalReference": "SO-1"}, "channel": "web"},
            {("externalReference", "SO-1"), ("orderNumber", "SO-1")},
        ),
        (
            "order-update",
            {"query": {"thirdPartyReference": "SO-1", "event": "e", "action": "a"}, "channel": "web"},
            {("externalReference", "SO-1"), ("orderNumber", "SO-1")},
        ),
        (
            "product-update",
            {"query": {"thirdPartyReference": "SKU-1", "event": "e", "action": "a"}, "organisation": "acme"},
            SKU_1,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("in_a_list", [False, True], ids=["one", "many"])
def test_every_predefined_operation_is_found_by_what_it_names(
    engine: Engine, operation: str, arguments: dict[str, Any], expected: Terms, in_a_list: bool
) -> None:
    with engine.begin() as connection:
        if in_a_list:
            ids = [each.id for each in enqueue_many(connection, [NewMessage(operation, **arguments)] * 2)]
        else:
            ids = [enqueue(connection, operation, **arguments).id]
    assert sorted(stored(engine)) == sorted((each, *pair) for each in ids for pair in expected)


def test_a_rolled_back_message_leaves_no_terms(engine: Engine) -> None:
    with engine.connect() as connection:
        enqueue(connection, "order-import", ORDER, channel="web")
        enqueue_many(connection, [NewMessage("order-import", ORDER, channel="web")] * 2)
        connection.rollback()
    assert stored(engine) == []


def test_a_repeated_or_refused_message_adds_none(engine: Engine) -> None:
    first = NewMessage("order-import", order("SO-1"), channel="web", idempotency_key="k")
    other = NewMessage("order-import", order("SO-2"), channel="web", idempotency_key="k")
    with engine.begin() as connection:
        enqueue_many(connection, [first, first])
    before = stored(engine)
    assert len(before) == 3
    with engine.begin() as connection:
        enqueue(connection, "order-import", first.payload, channel="web", idempotency_key="k")
        enqueue_many(connection, [first] * 3)
        for call in (
            lambda: enqueue_many(connection, [other]),
            lambda: enqueue_many(connection, [first, other]),
        ):
            with pytest.raises(IdempotencyConflict):
                call()
    assert stored(engine) == before


def test_no_more_than_the_most_are_kept_and_none_that_is_too_long(engine: Engine) -> None:
    most = document(*(f"sku=SKU-{n}" for n in range(MAX_TERMS + 10)), externalReference="A")
    just, over = "x" * 255, "y" * 256
    with engine.begin() as connection:
        enqueue(connection, "order-import", most, channel="web")
        of_most = stored_in(connection)
        assert len(of_most) == MAX_TERMS
        assert {("externalReference", "A"), ("sku", f"SKU-{MAX_TERMS - 2}")} <= of_most
        lines = document(f"sku={just}", f"sku={over}", externalReference=over)
        enqueue(connection, "order-import", lines, channel="web")
        assert stored_in(connection) - of_most == {("sku", just)}


def stored_in(connection: Any) -> Terms:
    return {pair for terms in connection.scalars(select(unindexed.c.terms)) for pair in pairs_of(terms)}


ROOM = MAX_PAYLOAD_BYTES - 100
HOSTILE = {
    "lines": document("\n" * ROOM),
    "blanks": document(" " * ROOM),
    "dots": document("." * ROOM),
    "names": document("sku." * (ROOM // 4)),
    "a name and blanks": document("sku" + " " * (ROOM - 3)),
    "one term again and again": document("sku=1\n" * (ROOM // 6)),
    "lines with ends of names": document("sku.\n" * (ROOM // 5)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_terms_are_lifted_from_the_worst_documents_in_a_moment(name: str) -> None:
    operation = PREDEFINED["order-import"]
    begun = time.process_time()
    found = terms_of(operation, None, {}, read_document(operation, HOSTILE[name]).imports)
    assert time.process_time() - begun < 1.5
    assert set(pairs_of(found)) <= {("sku", "1")}


def test_terms_are_lifted_from_as_many_imports_as_fit_into_a_document_in_a_moment() -> None:
    many = [ImportFound({}, "sku=1")] * (MAX_PAYLOAD_BYTES // len("<import/>"))
    begun = time.process_time()
    assert pairs_of(terms_of(PREDEFINED["order-import"], None, {}, many)) == [("sku", "1")]
    assert time.process_time() - begun < 3


def test_a_messages_key_is_a_term_given_or_made_by_a_rule(engine: Engine) -> None:
    with engine.begin() as connection:
        enqueue(connection, "order-import", document(), channel="web", key="order:1")
    assert [(name, value) for _, name, value in stored(engine)] == [("key", "order:1")]
