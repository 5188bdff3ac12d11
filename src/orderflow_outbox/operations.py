"""The operations of OrderFlow's interface, as data.

An operation says how a kind of message is addressed, which scope it needs and which document it
carries. Source: the interface's operation pages, "TO OrderFlow".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from .errors import InvalidOperation

OPERATION_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%-]+(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*")  # RFC 3986, segments
ELEMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9._-]*")
KEY_PLACE = re.compile(r"\{([^{}]*)\}")
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
    """The shape of a good answer: a report per item, a sentence naming the result, or any 2xx."""

    IMPORT_RESULT = "import-result"
    TEXT = "text"
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
            new one makes obsolete. Those still waiting when it is enqueued are retired then.

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
        if not PATH.fullmatch(self.path) or any(part in {".", ".."} for part in self.path.split("/")):
            self._refuse("path", self.path, "give it as in a web address, without a leading slash or a query")
        if self.body_root is not None and not ELEMENT_NAME.fullmatch(self.body_root):
            self._refuse("body_root", self.body_root, "give the name of an element")
        if self.body_root is not None and self.method in {Method.GET, Method.DELETE}:
            self._refuse("body_root", self.body_root, f"a {self.method} request has no body; leave it out")
        if self.import_type is not None and not self.holds_imports:
            self._refuse("import_type", self.import_type, f"only a document of <{IMPORTS}> has import types")
        if self.key is not None and not all(KEY_PLACE.findall(self.key) or [""]):
            self._refuse(
                "key", self.key, "give text with the name of a value in it, as in order:{externalReference}"
            )

    @property
    def holds_imports(self) -> bool:
        """Whether its document holds `<import>` elements."""
        return self.body_root == IMPORTS

    def _refuse(self, field: str, value: object, fix: str) -> None:
        raise InvalidOperation(f"operations.{self.name}.{field}", value, fix)
