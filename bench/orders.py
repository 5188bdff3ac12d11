"""What is sent: for each identity one order in OrderFlow's format, a kilobyte and a half of it."""

from __future__ import annotations

import base64

from orderflow_outbox import PREDEFINED, NewMessage
from worker.requests import IDENTITY_HEADER, USER_AGENT

OPERATION = "order-import"
CHANNEL = "web"
USER = "shop"
PASSWORD = "bench"  # noqa: S105 (the receiver lets everyone in)
PATH = PREDEFINED[OPERATION].path

_LINES = 5


def document(identity: str) -> str:
    """Return the order of this identity."""
    lines = "\n".join(
        f"orderLine.{n}.product.externalReference=SKU-{n:05d}\n"
        f"orderLine.{n}.product.description=Mug, stoneware, glazed in blue, 300 ml\n"
        f"orderLine.{n}.quantity={n}\n"
        f"orderLine.{n}.priceGross=12.00\n"
        f"orderLine.{n}.taxRate=20.00"
        for n in range(1, _LINES + 1)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<imports><import type="order" operation="insert" externalReference="{identity}"><![CDATA['
        f"state=created\nplaced=2026-11-01 09:30:00\ncurrency=GBP\ntotalPriceGross=180.00\n"
        "deliveryContact=Alex Miller\ndeliveryAddressLine1=12 Harbour Street\ndeliveryTown=Porthaven\n"
        "deliveryPostCode=AB1 2CD\ndeliveryCountry=GB\nemail=alex.miller@example.com\n"
        "comment=Please ring at the side door after 5 pm\n"
        f"{lines}\nshipment.externalReference={identity}-1\nshipment.state=ready"
        "]]></import></imports>"
    )


def order(identity: str, destination: str = "main") -> NewMessage:
    """Return the message of this identity's order, with a key of its own."""
    return NewMessage(
        OPERATION,
        document(identity),
        destination=destination,
        channel=CHANNEL,
        key=f"order:{identity}",
        idempotency_key=identity,
    )


def identities(prefix: str, count: int) -> list[str]:
    """Return `count` identities that begin with `prefix`."""
    return [f"{prefix}-{n:06d}" for n in range(count)]


def headers(identity: str) -> dict[str, str]:
    """Return the headers of the request that the outbox makes for the order of this identity."""
    return {
        "Authorization": f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}",
        "channel": CHANNEL,
        IDENTITY_HEADER: identity,
        "Accept-Encoding": "identity",
        "User-Agent": USER_AGENT,
        "Content-Type": "application/xml; charset=utf-8",
    }
