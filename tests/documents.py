"""Documents of OrderFlow's real shape."""

from __future__ import annotations


def order(*references: str, sku: str = "SKU-1") -> str:
    """Return an import of one order for each reference."""
    items = "".join(
        f'<import type="order" operation="insert" externalReference="{reference}"><![CDATA[state=created\n'
        f"placed=2026-11-01 09:30:00\ncurrency=GBP\ntotalPriceGross=24.00\ndeliveryPostCode=AB1 2CD\n"
        f"orderLine.1.product.externalReference={sku}\norderLine.1.quantity=2\n"
        f"shipment.externalReference={reference}_S1\nshipment.state=ready]]></import>"
        for reference in references
    )
    return f"<imports>{items}</imports>"
