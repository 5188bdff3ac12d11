"""What rules of both kinds look for: XPaths and regular expressions, in an element and its words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from lxml import etree

from config import is_expression

from .answered import xpath

Lift = Callable[[etree._Element | None, str], str]

T = TypeVar("T")


def regular_expression(expression: str) -> re.Pattern[str]:
    """Return a compiled regular expression."""
    return re.compile(expression)


def all_hold(conditions: Sequence[Callable[[T], bool]], of: T) -> bool:
    """Tell whether every condition holds, the first that does not being the last that is asked."""
    return all(condition(of) for condition in conditions)


def xpath_holds(expression: str, namespaces: Mapping[str, str]) -> Callable[[etree._Element | None], bool]:
    """Return whether an XPath finds something in an element, or is true of it."""
    path = xpath(expression, dict(namespaces))

    def holds(element: etree._Element | None) -> bool:
        if element is None:
            return False
        found = path(element)
        return bool(found) and found == found  # what is no number is not itself, and means no

    return holds


def lift_of(lift: str, namespaces: Mapping[str, str]) -> Lift:
    """Return what takes a text out of an element, or of its words."""
    if is_expression(lift):
        expression = re.compile(lift[1:-1])
        return lambda _element, words: _matched(expression.search(words))
    path = xpath(lift, dict(namespaces))
    return lambda element, _words: "" if element is None else _told(path(element))


def _matched(match: re.Match[str] | None) -> str:
    return "" if match is None else match[1 if match.re.groups else 0] or ""


def _told(found: Any) -> str:
    first = found[0] if isinstance(found, list) and found else found
    if isinstance(first, etree._Element):
        return " ".join(first.itertext())
    return "" if isinstance(first, list) else str(first)
