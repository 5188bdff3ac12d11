"""What every rule has: a name, where it applies, conditions that are looked for, and what is told of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

from lxml import etree
from pydantic import BeforeValidator, Field, field_validator

from orderflow_outbox.errors import shown

from .values import Strict

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
REASON = re.compile(r"[a-z][a-z0-9_]*")
MAX_NAME_CHARACTERS = 64
RESERVED_REASONS = frozenset({"split", "not_mentioned", "not_judged", "check_unclear"})

_PLACE = re.compile(r"\{([^{}]*)\}")
_XPATH_TEXT = re.compile(r"""'[^']*'|"[^"]*\"""")
_XPATH_CALL = re.compile(r"([A-Za-z_][\w.:-]*)\s*\(")
_XPATH_PREFIX = re.compile(r"([A-Za-z_][\w.-]*):(?!:)(?=[A-Za-z_*])")
# XPath 1.0, sections 4 and 2.3; and the operators that may stand before a bracket.
_XPATH_CALLED = re.compile(
    "last|position|count|id|local-name|namespace-uri|name|string|concat|starts-with|contains|substring|"
    "substring-before|substring-after|string-length|normalize-space|translate|boolean|not|true|false|lang|"
    "number|sum|floor|ceiling|round|comment|text|processing-instruction|node|and|or|div|mod"
)

_XPATH_NAME = re.compile(r"(?:([A-Za-z_][\w.-]*):(?!:))?([A-Za-z_][\w.-]*)")
MAX_PROBED_NAMES = 6
PROBED_DEPTH = 3


def compiled(expression: str) -> re.Pattern[str]:
    """Return a regular expression.

    Raises:
        ValueError: it is none.
    """
    try:
        return re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"it is no regular expression ({error})") from None


def _checked(value: Any) -> Any:
    if isinstance(value, str):
        compiled(value)
    return value


Expression = Annotated[str, BeforeValidator(_checked)]
Names = Annotated[list[str], Field(min_length=1)]


class Rule(Strict):
    """A rule of either kind: on a whole reply, or on the report of one item."""

    REASON_PLACES: ClassVar[frozenset[str]]
    TEXT_PLACES: ClassVar[frozenset[str]]
    CONDITIONS: ClassVar[tuple[str, ...]]

    name: str
    operations: Names | None = None
    destinations: Names | None = None
    xpath: str | None = None
    text: Expression | None = None
    reason: str
    text_from: list[str] = Field(default_factory=list)
    says: str

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not NAME.fullmatch(value) or len(value) > MAX_NAME_CHARACTERS:
            raise ValueError(
                f"use lower-case words joined by hyphens, {MAX_NAME_CHARACTERS} characters at most"
            )
        return value

    @field_validator("reason")
    @classmethod
    def _is_a_code(cls, value: str) -> str:
        _check_places(value, cls.REASON_PLACES)
        if not REASON.fullmatch(_PLACE.sub("x", value)) or len(value) > MAX_NAME_CHARACTERS:
            raise ValueError('use lower-case letters, digits and _, as in "no_stock"')
        if value in RESERVED_REASONS:
            raise ValueError("the service itself gives this reason: choose another")
        return value

    @field_validator("says")
    @classmethod
    def _has_places(cls, value: str) -> str:
        _check_places(value, cls.TEXT_PLACES)
        return value

    def conditions(self) -> set[str]:
        """Return the names of its conditions."""
        return {name for name in self.CONDITIONS if getattr(self, name) is not None}

    def leaves_nothing_to(self, other: Rule) -> bool:
        """Tell whether it fits wherever `other` would, so that behind it `other` is never asked."""
        return (
            _includes(self.operations, other.operations)
            and _includes(self.destinations, other.destinations)
            and all(self._holds_with(name, other) for name in self.conditions())
        )

    def _holds_with(self, name: str, other: Rule) -> bool:
        """Tell whether a condition of this rule holds wherever that of `other` does."""
        own, others = getattr(self, name), getattr(other, name, None)
        if others is None:
            return False
        return set(others) <= set(own) if isinstance(own, list | frozenset) else bool(own == others)

    def applies_to(self, destination: str, operation: str) -> bool:
        """Tell whether it is asked of this operation's replies at this destination."""
        return _includes(self.operations, [operation]) and _includes(self.destinations, [destination])

    def problems(self, known: Mapping[str, Sequence[str]], namespaces: Mapping[str, str]) -> list[str]:
        """Return what is wrong with it beside the rest of the configuration.

        Args:
            known: the names of the operations and of the destinations there are.
            namespaces: the prefixes that its XPaths may use.
        """
        found = [
            f"{key} names {name!r}, which nobody knows: choose of {', '.join(names)}"
            for key, names in known.items()
            for name in getattr(self, key) or ()
            if name not in names
        ]
        if self.xpath is not None and (problem := _wrong_with_xpath(self.xpath, namespaces)):
            found.append(f"xpath is {shown(self.xpath)}: {problem}")
        for each in self.text_from:
            problem = (
                _wrong_with_expression(each) if is_expression(each) else _wrong_with_xpath(each, namespaces)
            )
            if problem:
                found.append(f"text_from is {shown(each)}: {problem}")
        return found


def problems_of(
    key: str, rules: Sequence[Rule], known: Mapping[str, Sequence[str]], namespaces: Mapping[str, str]
) -> list[str]:
    """Return what is wrong with the rules of one table, each with its place there.

    Args:
        key: the table's name in the file.
    """
    found = []
    for place, rule in enumerate(rules):
        where = f"{key}.{place} ({rule.name})"
        found += [f"{where}: {problem}" for problem in rule.problems(known, namespaces)]
        for before, earlier in enumerate(rules[:place]):
            if earlier.name == rule.name:
                found.append(f"{where}: {key}.{before} has that name already: choose another")
            if earlier.leaves_nothing_to(rule):
                found.append(
                    f"{where}: it would never be asked, since {key}.{before} ({earlier.name}) before it fits "
                    "all that it does: move it up, or take it out"
                )
    return found


def is_expression(lift: str) -> bool:
    """Tell whether `text_from` holds a regular expression, between slashes, and not an XPath."""
    return len(lift) > 2 and lift.startswith("/") and lift.endswith("/")


def _wrong_with_xpath(xpath: str, namespaces: Mapping[str, str]) -> str:
    """Return what is wrong with an XPath; nothing where it is one."""
    # What stands in a predicate is looked at when there is something to ask it of.
    return (
        _wrong_when_asked_of(etree.Element("any"), xpath, namespaces)
        or _wrong_with_names(xpath, namespaces)
        or _wrong_when_asked_of(_probe(xpath, namespaces), xpath, namespaces)
    )


def _wrong_when_asked_of(element: etree._Element, xpath: str, namespaces: Mapping[str, str]) -> str:
    try:
        etree.XPath(xpath, namespaces=dict(namespaces))(element)
    except etree.XPathError as error:
        return f"it is no XPath ({error}); prefixes stand in a table [namespaces]"
    except (TypeError, ValueError) as error:
        return f"it is no XPath ({error})"
    return ""


def _wrong_with_names(xpath: str, namespaces: Mapping[str, str]) -> str:
    bare = _XPATH_TEXT.sub("''", xpath)
    if "$" in bare:
        return "it has a variable, and there are none"
    for name in _XPATH_CALL.findall(bare):
        if not _XPATH_CALLED.fullmatch(name.rpartition("::")[2]):
            return f"it calls {name}(), which XPath 1.0 does not have"
    for prefix in _XPATH_PREFIX.findall(bare):
        if prefix not in namespaces:
            return f"its prefix {prefix} is not declared: name it in a table [namespaces]"
    return ""


def _probe(xpath: str, namespaces: Mapping[str, str]) -> etree._Element:
    """Return a document of the names in an XPath, one in another, so that its predicates are asked."""
    names = [
        f"{{{namespaces[prefix]}}}{name}" if prefix in namespaces else name
        for prefix, name in dict.fromkeys(_XPATH_NAME.findall(xpath))
    ][:MAX_PROBED_NAMES]
    root = etree.Element("any")
    parents, attributes = [root], dict.fromkeys(names, "1")
    for _ in range(PROBED_DEPTH):
        parents = [etree.SubElement(each, name, attributes) for each in parents for name in names]
    return root


def _wrong_with_expression(lift: str) -> str:
    try:
        compiled(lift[1:-1])
    except ValueError as error:
        return str(error)
    return ""


def _check_places(text: str, places: Iterable[str]) -> None:
    for name in _PLACE.findall(text):
        if name not in places:
            allowed = ", ".join(f"{{{each}}}" for each in sorted(places)) or "none"
            raise ValueError(f"{{{' '.join(name.split())}}} is no place: use {allowed}")
    if {"{", "}"} & set(_PLACE.sub("", text)):
        raise ValueError("a brace stands alone: write a place such as {status}")


def _includes(wider: Sequence[str] | None, narrower: Sequence[str] | None) -> bool:
    return wider is None or (narrower is not None and set(narrower) <= set(wider))
