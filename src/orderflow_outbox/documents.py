"""What a payload must be before it is accepted: checked by expat, sent on as the bytes given.

The rules are the interface's: UTF-8, root `<imports>` holding at least one `<import>`, names of
elements and attributes in camelCase with a lower-case first letter, no hyphen and no underscore.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from xml.parsers import expat

from .errors import InvalidPayload, PayloadTooLarge, shown
from .operations import Naming, Operation

MAX_PAYLOAD_BYTES = 5 * 1024 * 1024
MAX_DEPTH = 100
EXCERPT_BYTES = 20
"""So much is shown of a document before and after the place where it stops being XML."""
INTERFACE_NAME = re.compile(r"[a-z][A-Za-z0-9]*+")
_INTERFACE_NAMES = re.compile(f"{INTERFACE_NAME.pattern}(?: {INTERFACE_NAME.pattern})*+")


class ImportFound(NamedTuple):
    """One `<import>` of a document: its attributes and the text of its `key=value` lines."""

    attributes: Mapping[str, str]
    text: str


class Document(NamedTuple):
    """A payload that may be sent: its bytes, the attributes of its root, and its imports."""

    payload: bytes | None
    attributes: Mapping[str, str] = {}
    imports: tuple[ImportFound, ...] = ()


def read_document(operation: Operation, payload: bytes | str | None) -> Document:
    """Return the payload as the bytes that will be sent, once it is the operation's document.

    Raises:
        InvalidPayload: empty, missing, not wanted, not well-formed, with a DOCTYPE, a wrong root, a
            name against the interface's rule, no `<import>`, or a wrong import type.
        PayloadTooLarge: more than `MAX_PAYLOAD_BYTES`.
    """
    if operation.body_root is None:
        if payload is not None:
            raise InvalidPayload("payload", payload, f"{operation.name} has no body; leave payload out")
        return Document(None)
    if payload is not None and not isinstance(payload, bytes | str):
        raise InvalidPayload("payload", payload, "give bytes or str")
    if not payload:
        raise InvalidPayload("payload", payload, f"{operation.name} sends a <{operation.body_root}> document")
    document = _encoded(payload)
    if len(document) > MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(
            "payload", f"{len(document)} bytes", f"send at most {MAX_PAYLOAD_BYTES} bytes; split the imports"
        )
    return _Inspection(operation, document).run()


def _encoded(payload: bytes | str) -> bytes:
    if isinstance(payload, bytes):
        return payload
    try:
        return payload.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidPayload(
            "payload", payload[error.start : error.end], "remove the lone surrogate: it has no UTF-8 form"
        ) from None


class _Inspection:
    """One pass of expat over a document, stopping at the first thing that is wrong."""

    __slots__ = (
        "attributes",
        "camel_case",
        "depth",
        "document",
        "holds_imports",
        "imports",
        "operation",
        "parser",
        "root",
        "text",
    )

    def __init__(self, operation: Operation, document: bytes) -> None:
        self.operation = operation
        self.camel_case = operation.naming is Naming.CAMEL_CASE
        self.holds_imports = operation.holds_imports
        self.document = document
        self.depth = 0
        self.root: Mapping[str, str] = {}
        self.imports: list[ImportFound] = []
        self.attributes: Mapping[str, str] = {}
        self.text: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.XmlDeclHandler = self._declaration
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end

    def run(self) -> Document:
        # expat would take UTF-16 too; its text in any byte order holds NUL, which XML in UTF-8 never does.
        if self.document.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in self.document:
            raise InvalidPayload("payload", self.document[:20], "send UTF-8, without a NUL")
        try:
            self.parser.Parse(self.document, True)
        except expat.ExpatError as error:
            raise InvalidPayload(
                "payload",
                self._excerpt(self.parser.ErrorByteIndex),
                f"make it well-formed XML ({expat.ErrorString(error.code)}, line {error.lineno})",
            ) from None
        if self.holds_imports and not self.imports:
            raise InvalidPayload("payload", f"<{self.operation.body_root}/>", "add at least one <import>")
        return Document(self.document, self.root, tuple(self.imports))

    def _excerpt(self, at: int) -> str:
        before = self.document[max(0, at - EXCERPT_BYTES) : at].splitlines()
        after = self.document[at : at + EXCERPT_BYTES].splitlines()
        line = b"".join((*before[-1:], *after[:1]))
        return line.decode("utf-8", "replace")

    def _declaration(self, version: str, encoding: str | None, _standalone: int) -> None:
        if version != "1.0":
            raise InvalidPayload("payload", f"version {version}", "write XML 1.0")
        if encoding is not None and encoding.lower() not in {"utf-8", "utf8", "us-ascii"}:
            raise InvalidPayload("payload", f"encoding {encoding}", "send UTF-8 and say so, or say nothing")

    def _doctype(self, name: str, *_rest: Any) -> None:
        raise InvalidPayload("payload", f"<!DOCTYPE {name}", "leave the DOCTYPE out; the interface has none")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self.camel_case:
            self._check_names(name, *attributes)
        if self.depth == 0:
            self._begin_document(name, attributes)
        elif self.depth == 1 and self.holds_imports:
            self._begin_import(name, attributes)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise InvalidPayload("payload", f"<{name}>", f"nest at most {MAX_DEPTH} elements deep")

    def _check_names(self, *names: str) -> None:
        if not _INTERFACE_NAMES.fullmatch(" ".join(names)):
            raise InvalidPayload(
                "payload",
                next(name for name in names if not INTERFACE_NAME.fullmatch(name)),
                f"line {self.parser.CurrentLineNumber}: names are camelCase, first letter lower case, "
                "no hyphen, no underscore",
            )

    def _begin_document(self, name: str, attributes: dict[str, str]) -> None:
        if name != self.operation.body_root:
            raise InvalidPayload("payload", f"<{name}>", f"the root is <{self.operation.body_root}>")
        self.root = attributes

    def _begin_import(self, name: str, attributes: dict[str, str]) -> None:
        if name != "import":
            raise InvalidPayload("payload", f"<{name}>", "the root holds <import> elements only")
        wanted = self.operation.import_type
        if wanted is not None and attributes.get("type") != wanted:
            raise InvalidPayload(
                "payload",
                attributes.get("type"),
                f"line {self.parser.CurrentLineNumber}: {self.operation.name} takes "
                f"<import type={shown(wanted)}>",
            )
        self.attributes, self.text = attributes, []
        self.parser.CharacterDataHandler = self.text.append

    def _end(self, _name: str) -> None:
        self.depth -= 1
        if self.depth == 1 and self.holds_imports:
            self.parser.CharacterDataHandler = None
            self.imports.append(ImportFound(self.attributes, "".join(self.text)))
