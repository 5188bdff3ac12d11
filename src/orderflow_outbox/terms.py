"""The words a person looks a message up by, lifted from it when it is enqueued.

`key` is the message's own. `externalReference` names each thing that is imported, `orderNumber` and
`sku` the orders and products that it is or holds. The interface addresses an order below
`remoteorder/order/` and a product below `remotewarehouse/product/` by query parameters in place of a
document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice

from .documents import ImportFound
from .operations import Operation

KEY = "key"
"""The term that holds a message's key."""
MAX_TERMS = 2000
"""Terms kept of one message; those past it can still be found by text."""
MAX_VALUE_CHARACTERS = 255

SEPARATOR = "\x1f"
"""Between names and values in one text: neither XML nor a query parameter may hold it."""

_NAMED_BY_TYPE = {"order": "orderNumber", "product": "sku"}
_NAMED_BY_PATH = {"remoteorder/order/": "orderNumber", "remotewarehouse/product/": "sku"}
_QUERY_PARAMETERS = ("externalReference", "thirdPartyReference")
_ORDERS = ("order.externalReference", "orderNumber")
_PRODUCTS = ("product.externalReference", "sku")
# A shop waits for this too: no step goes back. The name is taken whole, and then looked at from its end,
# where one of those above stands after a dot or by itself.
_LINE = re.compile(
    r"\n[ \t]*+([A-Za-z0-9.]++)(?:"
    + "|".join(rf"(?<=[\n\t .]{re.escape(name)})" for name in (*_ORDERS, *_PRODUCTS))
    + r")[ \t]*+=(.*)"
)


def terms_of(
    operation: Operation, key: str | None, query: Mapping[str, str], imports: Iterable[ImportFound]
) -> str:
    """Return names and values in one text, each pair once, in the order they appear.

    Args:
        operation: what kind of message it is.
        key: the message's key, if it has one.
        query: the query parameters it is sent with.
        imports: those of its document.
    """
    found: dict[str, None] = {} if key is None else {f"{KEY}{SEPARATOR}{key}": None}
    if query:
        _lift_from_query(found, operation, query)
    return _with_imports(found, imports)


def terms_of_imports(key: str | None, imports: Iterable[ImportFound]) -> str:
    """Return the terms of some imports of a message, as `terms_of` does of all."""
    return _with_imports({} if key is None else {f"{KEY}{SEPARATOR}{key}": None}, imports)


def _with_imports(found: dict[str, None], imports: Iterable[ImportFound]) -> str:
    for each in imports:
        _lift_from_import(found, each)
        if len(found) >= MAX_TERMS:
            break
    return SEPARATOR.join(islice(found, MAX_TERMS) if len(found) > MAX_TERMS else found)


def _lift_from_query(found: dict[str, None], operation: Operation, query: Mapping[str, str]) -> None:
    for parameter in _QUERY_PARAMETERS:
        value = query.get(parameter, "").strip()
        _add(found, "externalReference", value)
        for path, name in _NAMED_BY_PATH.items():
            if operation.path.startswith(path):
                _add(found, name, value)


def _lift_from_import(found: dict[str, None], each: ImportFound) -> None:
    reference = each.attributes.get("externalReference", "").strip()
    _add(found, "externalReference", reference)
    kind = each.attributes.get("type", "")
    if kind in _NAMED_BY_TYPE:
        _add(found, _NAMED_BY_TYPE[kind], reference)
    for line in _LINE.finditer(f"\n{each.text}"):
        name, value = line.groups()
        _add(found, "orderNumber" if name.endswith(_ORDERS) else "sku", value.strip())
        if len(found) >= MAX_TERMS:
            break


def _add(found: dict[str, None], name: str, value: str) -> None:
    if value and len(value) <= MAX_VALUE_CHARACTERS:
        found[f"{name}{SEPARATOR}{value}"] = None


def pairs_of(terms: str) -> list[tuple[str, str]]:
    """Return the names and values in one text of `terms_of`."""
    parts = terms.split(SEPARATOR) if terms else []
    return list(zip(parts[::2], parts[1::2], strict=True))
