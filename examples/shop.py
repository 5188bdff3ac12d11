"""A web shop in miniature: store an order and its message for OrderFlow in one transaction.

python examples/shop.py SO-1001
"""

import os
import sys

from celery import Celery
from sqlalchemy import Column, MetaData, String, Table, create_engine

from orderflow_outbox import enqueue, hint_after_commit
from orderflow_outbox.sqlite import prepare

engine = prepare(create_engine(os.environ.get("SHOP_DATABASE_URL", "sqlite:///var/outbox.db")))
shop = MetaData()
shop_order = Table("shop_order", shop, Column("number", String(64), primary_key=True))

broker = os.environ.get("SHOP_BROKER_URL")
if broker:  # optional: without a hint a message leaves within a second all the same
    app = Celery(broker=broker)
    bounded = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "max_retries": 0}

    def wake() -> None:
        with app.connection_for_write(transport_options=bounded) as connection:
            app.send_task("tasks.deliver", queue="orderflow", connection=connection, retry=False, expires=60)

    hint_after_commit(engine, wake)

DOCUMENT = """<imports>
  <import type="order" operation="insert" externalReference="{number}">
    <![CDATA[state=created
    placed=2026-11-01 09:30:00
    currency=GBP
    totalPriceGross=24.00
    deliveryPostCode=AB1 2CD
    orderLine.1.product.externalReference=SKU-1
    orderLine.1.quantity=2]]>
  </import>
</imports>"""


def place_order(number: str) -> int:
    """Store the order and its message: both with the commit, or neither."""
    with engine.begin() as connection:
        connection.execute(shop_order.insert(), {"number": number})
        message = enqueue(
            connection,
            "order-import",
            DOCUMENT.format(number=number),
            channel="web",
            key=f"order:{number}",
            idempotency_key=f"order-import:{number}",
        )
    return message.id


if __name__ == "__main__":
    shop.create_all(engine)
    print(f"order {sys.argv[1]} is message {place_order(sys.argv[1])}")
