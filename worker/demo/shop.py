"""A small web shop: each business row and its message are stored in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table

from orderflow_outbox import Message, enqueue

CHANNEL = "web"
ORGANISATION = "acme"
MISSING_PRODUCT = "SKU-9999"
"""A product that OrderFlow does not know when the first orders for it arrive."""
UNLUCKY_ORDER = "SO-0013"
"""An order on which OrderFlow always fails."""

shop_metadata = MetaData()
shop_entry = Table("shop_entry", shop_metadata, Column("reference", String(64), primary_key=True))


@dataclass(frozen=True, slots=True)
class Sale:
    """One thing the shop tells OrderFlow; `entity` is how OrderFlow's books name it."""

    operation: str
    reference: str
    sku: str = "SKU-1"

    @property
    def entity(self) -> tuple[str, str, str]:
        kinds = {
            "order-import": ("order", "insert"),
            "product-import": ("product", "insert"),
            "return-import": ("return", "insert"),
            "order-cancel": ("order", "cancel"),
        }
        return (*kinds[self.operation], self.reference)


class RolledBack(Exception):
    """The shop changed its mind in the middle of a transaction."""


def day_of_business(orders: int) -> Iterator[Sale]:
    """Yield products, then orders, some with a return or a cancellation after them."""
    for n in range(1, max(2, orders // 10) + 1):
        yield Sale("product-import", f"SKU-{n}")
    for n in range(1, orders + 1):
        reference = f"SO-{n:04}"
        missing = n in {orders // 3, orders // 2}
        yield Sale("order-import", reference, MISSING_PRODUCT if missing else f"SKU-{n % 7 + 1}")
        if missing or reference == UNLUCKY_ORDER:
            continue
        if n % 8 == 0:
            yield Sale("return-import", f"RET-{n:04}")
        elif n % 11 == 0:
            yield Sale("order-cancel", reference)


def sell(engine: Engine, sale: Sale, change_of_mind: bool = False) -> Message:
    """Store the shop's own row and the message, both or neither."""
    with engine.begin() as connection:
        row = f"{sale.operation} {sale.reference}"
        connection.execute(shop_entry.insert(), {"reference": row})
        message = _enqueue(connection, sale)
        if change_of_mind:
            raise RolledBack
    return message


def _enqueue(connection: Connection, sale: Sale) -> Message:
    match sale.operation:
        case "order-cancel":
            return enqueue(
                connection,
                sale.operation,
                channel=CHANNEL,
                key=f"order:{sale.reference}",
                query={"externalReference": sale.reference},
            )
        case "order-import":
            return enqueue(
                connection,
                sale.operation,
                order_document(sale),
                channel=CHANNEL,
                key=f"order:{sale.reference}",
            )
        case _:
            return enqueue(
                connection,
                sale.operation,
                _document(sale),
                organisation=ORGANISATION,
                key=f"{sale.entity[0]}:{sale.reference}",
            )


def order_document(sale: Sale) -> str:
    """Return an order as OrderFlow imports it."""
    return _imports(
        "order",
        sale.reference,
        "state=created",
        "placed=2026-11-01 09:30:00",
        "currency=GBP",
        "totalPriceGross=24.00",
        "deliveryPostCode=AB1 2CD",
        f"orderLine.1.product.externalReference={sale.sku}",
        "orderLine.1.quantity=2",
        f"shipment.externalReference={sale.reference}_S1",
        "shipment.state=ready",
    )


def _document(sale: Sale) -> str:
    kind = sale.entity[0]
    if kind == "product":
        return _imports(kind, sale.reference, f"description=Tea no. {sale.reference}", "weightKg=0.25")
    return _imports(kind, sale.reference, f"order.externalReference=SO{sale.reference[3:]}", "reason=broken")


def _imports(kind: str, reference: str, *lines: str) -> str:
    content = "\n".join(lines)
    head = f'<import type="{kind}" operation="insert" externalReference="{reference}">'
    return f"<imports>{head}<![CDATA[{content}]]></import></imports>"
