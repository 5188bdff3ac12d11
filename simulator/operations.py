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
    "order-detail",
    "inventory",
    "despatches",
)

Scope = Literal["channel", "organisation"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path: what it does, the scope it needs, and the operation it serves for each entity type."""

    action: Literal["import", "cancel", "update", "query"]
    scopes: tuple[Scope, ...]
    """Any one of these will do; where several are named, the first of them here counts."""
    operations: dict[str, str]
    """Entity type to operation name; a path that takes no document has exactly one."""
    method: Literal["GET", "POST"] = "POST"

    def operation_for(self, entity_type: str) -> str | None:
        """The operation's name for this type of entity, or None when the path does not take it."""
        return self.operations.get(entity_type)

    @property
    def only_type(self) -> str:
        """The entity type of a path that takes no document."""
        return next(iter(self.operations))

    @property
    def only_operation(self) -> str:
        """The operation of a path that takes no document."""
        return self.operations[self.only_type]


_CHANNEL: tuple[Scope, ...] = ("channel",)
_ORGANISATION: tuple[Scope, ...] = ("organisation",)

ENDPOINTS = {
    "remoteorder/imports/importitems.xml": Endpoint("import", _CHANNEL, {"order": "order-import"}),
    "remotewarehouse/imports/importitems.xml": Endpoint(
        "import",
        _ORGANISATION,
        {"product": "product-import", "return": "return-import", "stockMoveTask": "stock-move-import"},
    ),
    "remoteorder/order/cancel.xml": Endpoint("cancel", _CHANNEL, {"order": "order-cancel"}),
    "remoteorder/order/update.xml": Endpoint("update", _CHANNEL, {"order": "order-update"}),
    "remotewarehouse/product/update.xml": Endpoint("update", _ORGANISATION, {"product": "product-update"}),
    "remoteorder/order/detail.xml": Endpoint("query", _CHANNEL, {"order": "order-detail"}),
    "remotewarehouse/inventory.xml": Endpoint(
        "query", _ORGANISATION + _CHANNEL, {"product": "inventory"}, method="GET"
    ),
    "remoteorder/shipment/despatches.xml": Endpoint(
        "query", _CHANNEL, {"shipment": "despatches"}, method="GET"
    ),
}


def endpoints_of(instance: str) -> dict[str, Endpoint]:
    """Full path to endpoint, for one instance name (which may be empty)."""
    prefix = f"/{instance}/" if instance else "/"
    return {prefix + path: endpoint for path, endpoint in ENDPOINTS.items()}
