"""The words a person looks a message up by, lifted from it when it is enqueued.

`key` is the message's own. `externalReference` names each thing that is imported, `orderNumber` and
`sku` the orders and products that it is or holds. The interface addresses an order below
`remoteorder/order/` and a product below `remotewarehouse/product/` by query parameters in place of a
document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from .documents import ImportFound
from .operations import Operation

KEY = "key"
"""The term that holds a message's key."""
MAX_TERMS = 2000
"""Terms kept of one message; those past it can still be found by text."""
MAX_VALUE_CHARACTERS = 255

_NAMED_BY_TYPE = {"order": "orderNumber", "product": "sku"}
_NAMED_BY_PATH = {"remoteorder/order/": "orderNumber", "remotewarehouse/product/": "sku"}
_QUERY_PARAMETERS = ("externalReference", "thirdPartyReference")
_LINE = re.compile(
    r"^[ \t]*(?:[A-Za-z0-9.]+\.)?"
    r"(?P<name>product\.externalReference|order\.externalReference|orderNumber|sku)"
    r"[ \t]*=(?P<value>.*)$",
    re.MULTILINE,
)
_NAMED_BY_LINE = {
    "product.externalReference": "sku",
    "sku": "sku",
    "order.externalReference": "orderNumber",
    "orderNumber": "orderNumber",
}


def terms_of(
    operation: Operation, key: str | None, query: Mapping[str, str], imports: Iterable[ImportFound]
) -> tuple[tuple[str, str], ...]:
    """Return names and values, each pair once, in the order they appear.

    Args:
        operation: what kind of message it is.
        key: the message's key, if it has one.
        query: the query parameters it is sent with.
        imports: those of its document.
    """
    found: dict[tuple[str, str], None] = {} if key is None else {(KEY, key): None}
    for name, value in _all(operation, query, imports):
        if 0 < len(value) <= MAX_VALUE_CHARACTERS:
            found[name, value] = None
            if len(found) == MAX_TERMS:
                break
    return tuple(found)


def _all(
    operation: Operation, query: Mapping[str, str], imports: Iterable[ImportFound]
) -> Iterator[tuple[str, str]]:
    for parameter in _QUERY_PARAMETERS:
        value = query.get(parameter, "").strip()
        yield "externalReference", value
        for path, name in _NAMED_BY_PATH.items():
            if operation.path.startswith(path):
                yield name, value
    for each in imports:
        reference = each.attributes.get("externalReference", "").strip()
        yield "externalReference", reference
        kind = each.attributes.get("type", "")
        if kind in _NAMED_BY_TYPE:
            yield _NAMED_BY_TYPE[kind], reference
        for line in _LINE.finditer(each.text):
            yield _NAMED_BY_LINE[line["name"]], line["value"].strip()
