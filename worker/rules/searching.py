"""What rules of both kinds look for: XPaths and regular expressions, in an element and its words."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from lxml import etree

from config import is_expression
from orderflow_outbox.errors import shown

from .answered import xpath

Lift = Callable[[etree._Element | None, str], str]

T = TypeVar("T")

log = logging.getLogger(__name__)


def all_hold(conditions: Sequence[Callable[[T], bool]], of: T) -> bool:
    """Tell whether every condition holds, the first that does not being the last that is asked."""
    return all(condition(of) for condition in conditions)


def xpath_holds(expression: str, namespaces: Mapping[str, str]) -> Callable[[etree._Element | None], bool]:
    """Return whether an XPath finds something in an element, or is true of it."""
    path = _careful(expression, namespaces)

    def holds(element: etree._Element | None) -> bool:
        found = None if element is None else path(element)
        return bool(found) and found == found  # what is no number is not itself, and means no

    return holds


def lift_of(lift: str, namespaces: Mapping[str, str]) -> Lift:
    """Return what takes a text out of an element, or of its words."""
    if is_expression(lift):
        expression = re.compile(lift[1:-1])
        return lambda _element, words: _matched(expression.search(words))
    path = _careful(lift, namespaces)
    return lambda element, _words: "" if element is None else _told(path(element))


def _careful(expression: str, namespaces: Mapping[str, str]) -> Callable[[etree._Element], Any]:
    """Return what evaluates an XPath, to nothing where it cannot be.

    What is wrong in a predicate may not come to light before there is something to ask it of, and must not
    keep the rules after it from judging the reply.
    """
    path = xpath(expression, dict(namespaces))

    def found(element: etree._Element) -> Any:
        try:
            return path(element)
        except etree.XPathError as error:
            log.warning("the XPath %s of a rule finds nothing: %s", shown(expression), error)
            return None

    return found


def _matched(match: re.Match[str] | None) -> str:
    return "" if match is None else match[1 if match.re.groups else 0] or ""


def _told(found: Any) -> str:
    first = found[0] if isinstance(found, list) and found else found
    if isinstance(first, etree._Element):
        return " ".join(first.itertext()) if isinstance(first.tag, str) else first.text or ""
    return "" if first is None or isinstance(first, list) else str(first)
