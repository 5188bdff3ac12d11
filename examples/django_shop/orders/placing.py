"""Store an order and its message for OrderFlow: both with the commit, or neither."""

from xml.sax.saxutils import escape, quoteattr

from django.db import connection, transaction

from orderflow_outbox import Message, borrowed, enqueue

from .hints import hint
from .models import Order


def document(order: Order) -> str:
    """Return the order as OrderFlow imports it."""
    sku = "[BR]".join(order.sku.splitlines())
    lines = (
        f"state=created\norderLine.1.product.externalReference={sku}\norderLine.1.quantity={order.quantity}"
    )
    return (
        f'<imports><import type="order" operation="insert" externalReference={quoteattr(order.number)}>'
        f"{escape(lines)}</import></imports>"
    )


def take_payment(order: Order) -> None:
    """Ask the payment provider, in a real shop; whatever is raised here undoes order and message."""


def place_order(order: Order) -> Message:
    """Store the order and its message once, however often they come."""
    with transaction.atomic():
        with borrowed(connection.connection) as outbox:
            message = enqueue(
                outbox,
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
