"""A web shop in miniature: store an order and its message for OrderFlow in one transaction.

python examples/shop.py SO-1001
"""

import os
import sys
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Column, MetaData, String, Table, create_engine

from orderflow_outbox import Order, enqueue, hint_after_commit, imports
from orderflow_outbox.sqlite import prepare

engine = prepare(create_engine(os.environ.get("SHOP_DATABASE_URL", "sqlite:///var/outbox.db")))
shop = MetaData()
shop_order = Table("shop_order", shop, Column("number", String(64), primary_key=True))

broker = os.environ.get("SHOP_BROKER_URL")
if broker:  # optional: without a hint a message leaves within a second all the same
    hint_after_commit(engine, broker)


def document(number: str) -> bytes:
    """Return the order as OrderFlow imports it."""
    fields = {
        "state": "created",
        "placed": datetime(2026, 11, 1, 9, 30),
        "currency": "GBP",
        "totalPriceGross": Decimal("24.00"),
        "deliveryPostCode": "AB1 2CD",
        "orderLine": [{"product": {"externalReference": "SKU-1"}, "quantity": 2}],
    }
    return imports([Order(number, fields)])


def place_order(number: str) -> int:
    """Store the order and its message: both with the commit, or neither."""
    with engine.begin() as connection:
        connection.execute(shop_order.insert(), {"number": number})
        message = enqueue(
            connection,
            "order-import",
            document(number),
            channel="web",
            key=f"order:{number}",
            idempotency_key=f"order-import:{number}",
        )
    return message.id


if __name__ == "__main__":
    shop.create_all(engine)
    print(f"order {sys.argv[1]} is message {place_order(sys.argv[1])}")
