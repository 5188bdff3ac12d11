"""The operations that are answered, and the paths they are reached by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OPERATIONS = (
    "order-import",
    "product-import",
    "return-import",
    "stock-move-import",
    "order-cancel",
    "order-update",
    "product-update",
)

Scope = Literal["channel", "organisation"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path: what it does, the scope it needs, and the operation it serves for each entity type."""

    action: Literal["import", "cancel", "update"]
    scope: Scope
    operations: dict[str, str]
    """Entity type to operation name; a path that takes no document has exactly one."""

    def operation_for(self, entity_type: str) -> str | None:
        """The operation's name for this type of entity, or None when the path does not take it."""
        return self.operations.get(entity_type)

    @property
    def only_type(self) -> str:
        """The entity type of a path that takes no document."""
        return next(iter(self.operations))


ENDPOINTS = {
    "remoteorder/imports/importitems.xml": Endpoint("import", "channel", {"order": "order-import"}),
    "remotewarehouse/imports/importitems.xml": Endpoint(
        "import",
        "organisation",
        {"product": "product-import", "return": "return-import", "stockMoveTask": "stock-move-import"},
    ),
    "remoteorder/order/cancel.xml": Endpoint("cancel", "channel", {"order": "order-cancel"}),
    "remoteorder/order/update.xml": Endpoint("update", "channel", {"order": "order-update"}),
    "remotewarehouse/product/update.xml": Endpoint("update", "organisation", {"product": "product-update"}),
}


def endpoints_of(instance: str) -> dict[str, Endpoint]:
    """Full path to endpoint, for one instance name (which may be empty)."""
    prefix = f"/{instance}/" if instance else "/"
    return {prefix + path: endpoint for path, endpoint in ENDPOINTS.items()}
