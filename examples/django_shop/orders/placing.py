"""Store an order and its message for OrderFlow: both with the commit, or neither."""

from django.db import connection, transaction

import orderflow_outbox as outbox
from orderflow_outbox import Message, borrowed, enqueue, imports

from .hints import hint
from .models import Order


def document(order: Order) -> bytes:
    """Return the order as OrderFlow imports it."""
    lines = [{"product": {"externalReference": order.sku}, "quantity": order.quantity}]
    return imports([outbox.Order(order.number, {"state": "created", "orderLine": lines})])


def take_payment(order: Order) -> None:
    """Ask the payment provider, in a real shop; whatever is raised here undoes order and message."""


def place_order(order: Order) -> Message:
    """Store the order and its message once, however often they come."""
    with transaction.atomic():
        with borrowed(connection.connection) as shop:
            message = enqueue(
                shop,
                "order-import",
                document(order),
                channel="web",
                key=f"order:{order.number}",
                idempotency_key=f"order-import:{order.number}",
            )
        if message.created:
            order.save()
            take_payment(order)
            transaction.on_commit(hint)
    return message
