"""How a shop tests that its orders are sent: nothing but its own code, and a database in memory.

pytest examples/test_shop.py
"""

from sqlalchemy.orm import Session

from orderflow_outbox import Order, enqueue, imports
from orderflow_outbox.testing import assert_enqueued, enqueued

pytest_plugins = ["orderflow_outbox.testing.fixtures"]


def place_order(session: Session, number: str, sku: str) -> None:
    """Send an order to the warehouse, as a shop's own code would."""
    lines = [{"product": {"externalReference": sku}, "quantity": 1}]
    document = imports([Order(number, {"state": "created", "orderLine": lines})])
    enqueue(session, "order-import", document, channel="web", key=f"order:{number}")


def test_an_order_is_sent_to_the_warehouse(outbox_session: Session) -> None:
    place_order(outbox_session, "SO-1001", "SKU-1")
    message = assert_enqueued(outbox_session, "order-import", key="order:SO-1001", channel="web")
    assert message.imports[0].fields["orderLine.1.product.externalReference"] == "SKU-1"


def test_an_order_whose_payment_fails_is_not_sent(outbox_session: Session) -> None:
    place_order(outbox_session, "SO-1001", "SKU-1")
    outbox_session.rollback()
    assert enqueued(outbox_session) == []
