"""The operations of OrderFlow's interface, as data.

An operation says how a kind of message is addressed, which scope it needs and which document it
carries. Source: the interface's operation pages, "TO OrderFlow".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote

from .errors import InvalidOperation
from .reserved import SERVICE_QUERY

OPERATION_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SEGMENT = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+"  # RFC 3986 section 3.3
PATH = re.compile(f"{_SEGMENT}(?:/{_SEGMENT})*")
ELEMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9._-]*")
PLACE = re.compile(r"\{([^{}\s]+)\}")
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
MAX_NAME_CHARACTERS = 64
IMPORTS = "imports"
"""The root of the interface's import documents."""


class Method(StrEnum):
    """The HTTP method of a request."""

    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"
    GET = "GET"


class Scope(StrEnum):
    """The part of OrderFlow an operation acts in; sent as a header of the same name."""

    CHANNEL = "channel"
    ORGANISATION = "organisation"


class Naming(StrEnum):
    """Which names the elements and attributes of a document may have."""

    CAMEL_CASE = "camelCase"
    ANY = "any"


class Answer(StrEnum):
    """The shape of a good answer: a report per item, a sentence naming the result, XML, or any 2xx."""

    IMPORT_RESULT = "import-result"
    TEXT = "text"
    DOCUMENT = "document"
    ANY = "any"


class WhenDead(StrEnum):
    """What a dead letter does to later messages of its key: they wait for it, or pass it."""

    WAIT = "wait"
    PASS = "pass"  # noqa: S105 (a policy, not a password)


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of request that a message can be.

    Attributes:
        name: lower-case words joined by hyphens, such as `order-import`.
        path: below the instance, such as `remoteorder/imports/importitems.xml`.
        scope: the scope that must be given; None where the operation needs none.
        body_root: name of the document's root element; None for an operation without a body.
        import_type: the `type` every `<import>` must have; None when the interface fixes none.
        query: query parameters with the value sent when the message gives none.
        required_query: query parameters a message must give.
        answer: the shape of a good answer.
        when_dead: whether later messages of the key wait for a dead letter or pass it.
        method: of the HTTP request.
        naming: which names the document may hold.
        key: the key of a message that gives none, as text with `{places}`. A place is the name of a
            query parameter or of an attribute of the root element, or of every `<import>` where all
            have the same value. None leaves such a message without a key, in no order.
        supersedes: operations (its own among them, if named) whose older messages of the same key a
            new one makes obsolete. Those still waiting when it is enqueued are retired then, one that is
            being sent when its attempt fails.

    Raises:
        InvalidOperation: naming the field, the value and the fix.
    """

    name: str
    path: str
    scope: Scope | None
    body_root: str | None = None
    import_type: str | None = None
    query: Mapping[str, str] | None = None
    required_query: tuple[str, ...] = ()
    answer: Answer = Answer.IMPORT_RESULT
    when_dead: WhenDead = WhenDead.WAIT
    method: Method = Method.POST
    naming: Naming = Naming.CAMEL_CASE
    key: str | None = None
    supersedes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not OPERATION_NAME.fullmatch(self.name) or len(self.name) > MAX_NAME_CHARACTERS:
            fix = f"use lower-case words joined by hyphens, {MAX_NAME_CHARACTERS} characters at most"
            raise InvalidOperation("name", self.name, fix)
        if not PATH.fullmatch(self.path) or {".", ".."} & set(unquote(self.path).split("/")):
            fix = "give it as in a web address, without a leading slash, a closing one or a query"
            self._refuse("path", self.path, fix)
        if self.body_root is not None and not ELEMENT_NAME.fullmatch(self.body_root):
            self._refuse("body_root", self.body_root, "give the name of an element")
        if self.body_root is not None and self.method in {Method.GET, Method.DELETE}:
            self._refuse("body_root", self.body_root, f"a {self.method} request has no body; leave it out")
        if self.import_type is not None and not self.holds_imports:
            self._refuse("import_type", self.import_type, f"only a document of <{IMPORTS}> has import types")
        if self.key is not None and not _is_key_rule(self.key):
            fix = "give text with the name of a value in braces, as in order:{externalReference}"
            self._refuse("key", self.key, fix)
        for name, value in (self.query or {}).items():
            self._check_parameter("query", name, value)
        for name in self.required_query:
            self._check_parameter("required_query", name)

    @property
    def holds_imports(self) -> bool:
        """Whether its document holds `<import>` elements."""
        return self.body_root == IMPORTS

    def _check_parameter(self, field: str, name: str, value: str = "") -> None:
        if not name or CONTROL_CHARACTER.search(name + value):
            self._refuse(field, name, "give each a name, and no control character in it or its value")
        if name.lower() in SERVICE_QUERY:
            self._refuse(field, name, "the service sends this itself; leave it out")

    def _refuse(self, field: str, value: object, fix: str) -> None:
        raise InvalidOperation(f"operations.{self.name}.{field}", value, fix)


def _is_key_rule(key: str) -> bool:
    """Tell whether `key` has a place in it, and no brace besides."""
    around, places = PLACE.subn("", key)
    return places > 0 and not CONTROL_CHARACTER.search(key) and not {"{", "}"} & set(around)
