"""Answers the queries: they tell what the ledger holds and take nothing in."""

from __future__ import annotations

from collections.abc import Mapping

from simulator import pages
from simulator.ledger import Ledger
from simulator.pages import Reply


def listed(query: Mapping[str, str]) -> list[str]:
    """The references that a query lists, separated by commas; none when it is not limited to any."""
    names = (name.strip() for name in query.get("externalReferences", "").split(","))
    return [name for name in names if name]


def order_detail(query: Mapping[str, str], ledger: Ledger) -> Reply:
    """The state of one order."""
    reference = query.get("externalReference")
    if not reference:
        return pages.error_page("No externalReference was given")
    if not ledger.knows("order", reference):
        return pages.error_page(f"Unknown order {reference}")
    return pages.order(reference, "cancelled" if ledger.is_cancelled("order", reference) else "created")


def inventory(query: Mapping[str, str], ledger: Ledger) -> Reply:
    """The stock of the products imported: of those listed, or of all."""
    names = listed(query)
    if names:
        return pages.inventory(sorted({name for name in names if ledger.knows("product", name)}))
    return pages.inventory(sorted(ledger.known("product")))


def despatches(query: Mapping[str, str], _ledger: Ledger) -> Reply:
    """What was despatched between two moments: this warehouse despatches nothing."""
    missing = next((name for name in ("from", "to") if not query.get(name)), None)
    return pages.error_page(f"No {missing} was given") if missing else pages.despatches()


QUERIES = {"order-detail": order_detail, "inventory": inventory, "despatches": despatches}
"""Operation name to what answers it."""
