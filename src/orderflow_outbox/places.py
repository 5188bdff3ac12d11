"""Text with places in braces, which are filled from a message: its query parameters and its document."""

from __future__ import annotations

from collections.abc import Mapping

from .documents import Document
from .operations import PLACE


def value_at(name: str, query: Mapping[str, str], document: Document) -> str:
    """Return the one value of that name: a query parameter, or an attribute of the root or the imports.

    Nothing where there is none, or where imports have several.
    """
    if name in query:
        return query[name]
    if name in document.attributes:
        return document.attributes[name]
    values = {each.attributes.get(name, "") for each in document.imports}
    return values.pop() if len(values) == 1 else ""


def without_value(text: str, query: Mapping[str, str], document: Document) -> list[str]:
    """Return the places of `text` that have no value, or several."""
    return [name for name in PLACE.findall(text) if not value_at(name, query, document).strip()]


def filled(text: str, query: Mapping[str, str], document: Document) -> str:
    """Return `text` with its places filled."""
    return PLACE.sub(lambda place: value_at(place[1], query, document), text)
