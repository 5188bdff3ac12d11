"""A message before it is stored, checked; and after, as `enqueue` returns it."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .catalogue import PREDEFINED, Catalogue
from .documents import Document, read_document
from .errors import InvalidHeader, InvalidMessage, MissingScope, shown
from .operations import CONTROL_CHARACTER, Operation, Scope
from .places import filled, without_value
from .reserved import SERVICE_HEADERS, SERVICE_QUERY
from .states import State
from .terms import terms_of

MAX_REFERENCE_CHARACTERS = 255
MAX_QUERY_CHARACTERS = 4096
MAX_HEADERS_CHARACTERS = 8192
MAX_VERSION = 2**63 - 1
LATEST_MOMENT = datetime(9999, 12, 30, tzinfo=UTC)
"""What is later has left the calendar somewhere: PostgreSQL answers in the time zone of whoever asks."""
DESTINATION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # token, RFC 9110 section 5.6.2

HIDDEN = "(hidden)"
"""Stands for the value of a header, or of what the service sends itself: it may be a credential."""


@dataclass(frozen=True, slots=True)
class Message:
    """A stored message.

    Attributes:
        id: its number in the outbox.
        created: False when the idempotency key already belonged to this very message.
    """

    id: int
    destination: str
    operation: str
    channel: str | None
    organisation: str | None
    key: str | None
    version: int | None
    idempotency_key: str
    state: State
    due_at: datetime | None
    expires_at: datetime | None
    created_at: datetime
    created: bool


@dataclass(slots=True)
class NewMessage:
    """One message for `enqueue_many`; the attributes are the arguments of `enqueue`."""

    operation: str
    payload: bytes | str | None = None
    destination: str = "main"
    channel: str | None = None
    organisation: str | None = None
    key: str | None = None
    idempotency_key: str | None = None
    version: int | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    deliver_after: datetime | None = None
    expires_at: datetime | None = None


@dataclass(slots=True)
class CheckedMessage:
    """A message that may be stored, with the bytes that will be sent."""

    operation: Operation
    destination: str
    channel: str | None
    organisation: str | None
    key: str | None
    idempotency_key: str
    version: int | None
    query: dict[str, str]
    headers: dict[str, str]
    payload: bytes | None
    sha256: bytes | None
    deliver_after: datetime | None
    expires_at: datetime | None
    terms: str

    @property
    def fingerprint(self) -> bytes:
        """A digest of all that makes the request: equal fingerprints, equal content."""
        return hashlib.sha256(ascii(self.content()).encode()).digest()

    def content(self) -> dict[str, Any]:
        """Return what two messages of one idempotency key must share, in an order that is always the same."""
        return {
            "operation": self.operation.name,
            "channel": self.channel,
            "organisation": self.organisation,
            "key": self.key,
            "version": self.version,
            "query": _in_order(self.query),
            "headers": _in_order(self.headers),
            "payload": None if self.sha256 is None else self.sha256.hex(),
        }


def check(new: NewMessage, catalogue: Catalogue = PREDEFINED) -> CheckedMessage:
    """Return `new` ready to be stored.

    Raises:
        InvalidMessage: one of its kinds, naming the field, the value and the fix.
    """
    if not isinstance(catalogue, Catalogue):
        raise InvalidMessage("catalogue", catalogue, "give a Catalogue, as Catalogue.load(file) returns it")
    operation = catalogue.find(new.operation)
    if not isinstance(new.destination, str) or not DESTINATION_NAME.fullmatch(new.destination):
        raise InvalidMessage("destination", new.destination, "use a name of the destinations file")
    channel, organisation = _scopes(operation, new)
    _check_moments(new)
    query = checked_query(operation, new.query)
    document = read_document(operation, new.payload)
    key = _key(operation, new.key, query, document)
    return CheckedMessage(
        operation=operation,
        destination=str.__str__(new.destination),
        channel=channel,
        organisation=organisation,
        key=key,
        idempotency_key=_idempotency_key(new.idempotency_key),
        version=_version(new.version),
        query=query,
        headers=_headers(new.headers),
        payload=document.payload,
        sha256=None if document.payload is None else hashlib.sha256(document.payload).digest(),
        deliver_after=_still_to_come(new.deliver_after),
        expires_at=new.expires_at,
        terms=terms_of(operation, key, query, document.imports),
    )


def _in_order(mapping: dict[str, str]) -> dict[str, str]:
    return dict(sorted(mapping.items())) if mapping else mapping


def _scopes(operation: Operation, new: NewMessage) -> tuple[str | None, str | None]:
    """Return the channel and the organisation."""
    channel = checked_scope("channel", new.channel)
    organisation = checked_scope("organisation", new.organisation)
    for scope, value in ((Scope.CHANNEL, channel), (Scope.ORGANISATION, organisation)):
        if value is None and scope is operation.scope:
            raise MissingScope(scope.value, value, f"{operation.name} acts in a {scope}; name it")
    return channel, organisation


def checked_scope(name: str, given: object) -> str | None:
    """Return a channel or an organisation that can be sent, None where none is given.

    Raises:
        InvalidMessage: it cannot be.
    """
    value = _reference(name, given)
    if value is not None and not (value.isascii() and value.strip() == value):
        raise InvalidMessage(name, value, "it travels as a header: plain ASCII, no outer blanks")
    return value


def _check_moments(new: NewMessage) -> None:
    if new.deliver_after is None and new.expires_at is None:
        return
    for name in ("deliver_after", "expires_at"):
        moment = getattr(new, name)
        if moment is not None and (not isinstance(moment, datetime) or moment.tzinfo is None):
            raise InvalidMessage(name, moment, "give a datetime with a time zone")
        _check_calendar(name, moment)
    if new.expires_at is None:
        return
    if new.expires_at <= datetime.now(new.expires_at.tzinfo):
        raise InvalidMessage("expires_at", new.expires_at.isoformat(), "give a moment still to come")
    if new.deliver_after is not None and new.expires_at <= new.deliver_after:
        raise InvalidMessage("expires_at", new.expires_at.isoformat(), "give a moment past deliver_after")


def _still_to_come(moment: datetime | None) -> datetime | None:
    """Return a moment of the future; one that is past would overtake what is due already."""
    return None if moment is None or moment <= datetime.now(moment.tzinfo) else moment


def _check_calendar(name: str, moment: datetime | None) -> None:
    try:
        fits = moment is None or moment.astimezone(UTC) < LATEST_MOMENT
    except OverflowError:
        fits = False
    if not fits:
        raise InvalidMessage(name, moment, f"give a moment before {LATEST_MOMENT:%Y-%m-%d}, or leave it out")


def _reference(name: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value or len(value) > MAX_REFERENCE_CHARACTERS:
        raise InvalidMessage(name, value, f"give 1 to {MAX_REFERENCE_CHARACTERS} characters, or leave it out")
    if CONTROL_CHARACTER.search(value):
        raise InvalidMessage(name, value, "remove the control character")
    return str.__str__(value)  # of an enumeration or the like the text alone, which is what comes back


def _key(operation: Operation, given: str | None, query: Mapping[str, str], document: Document) -> str | None:
    if given is not None or operation.key is None:
        return _reference("key", given)
    for name in without_value(operation.key, query, document):
        fix = f"{operation.name} makes its key of {name}, of which this message has none, or several"
        raise InvalidMessage("key", None, f"{fix}: give key")
    return _reference("key", filled(operation.key, query, document))


def _idempotency_key(value: str | None) -> str:
    if value is None:
        return uuid.uuid4().hex
    checked = _reference("idempotency_key", value)
    if checked is None or not checked.isascii() or checked.strip() != checked:
        raise InvalidMessage("idempotency_key", value, "it travels as a header: plain ASCII, no outer blanks")
    return checked


def _version(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_VERSION:
        raise InvalidMessage("version", value, "give a whole number from 0 up, below 2^63")
    return int(value)


def checked_query(operation: Operation, given: Mapping[str, str]) -> dict[str, str]:
    """Return the query parameters of a request: the operation's own, overlaid by those given.

    Raises:
        InvalidMessage: one is missing, is no text, or is sent by the service itself.
    """
    query = {**(operation.query or {}), **_texts("query", given)}
    for name in [each for each in query if each.lower() in SERVICE_QUERY]:
        fix = "the service sends this itself; leave it out (channel and organisation are arguments)"
        raise InvalidMessage(f"query[{shown(name)}]", HIDDEN, fix)
    for name in operation.required_query:
        if not query.get(name, "").strip():
            raise InvalidMessage(
                f"query[{shown(name)}]", query.get(name), f"{operation.name} needs it; give it"
            )
    if sum(len(name) + len(value) for name, value in query.items()) > MAX_QUERY_CHARACTERS:
        raise InvalidMessage("query", query, f"keep it within {MAX_QUERY_CHARACTERS} characters")
    return query


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    headers = _texts("headers", given, InvalidHeader)
    if not headers:
        return headers
    for name, value in headers.items():
        field_name = f"headers[{shown(name)}]"
        if not HEADER_NAME.fullmatch(name):
            raise InvalidHeader("headers", name, "a header name is letters, digits and hyphens")
        if name.lower() in SERVICE_HEADERS:
            raise InvalidHeader(field_name, HIDDEN, "the service sets this header itself; leave it out")
        if not value.isascii() or value.strip() != value:
            raise InvalidHeader(field_name, HIDDEN, "use plain ASCII without outer blanks")
    if len({name.lower() for name in headers}) < len(headers):
        raise InvalidHeader("headers", sorted(headers), "give each once; capitals make no difference")
    if sum(len(name) + len(value) for name, value in headers.items()) > MAX_HEADERS_CHARACTERS:
        raise InvalidHeader("headers", HIDDEN, f"keep them within {MAX_HEADERS_CHARACTERS} characters")
    return headers


def _texts(
    field_name: str, given: Mapping[str, str], error: type[InvalidMessage] = InvalidMessage
) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise error(field_name, given, "give a mapping of names to values")
    for name, value in given.items():
        hidden = error is InvalidHeader or str(name).lower() in SERVICE_QUERY
        if not isinstance(name, str) or not name or not isinstance(value, str):
            found = HIDDEN if hidden else value
            raise error(f"{field_name}[{shown(name)}]", found, "names and values are text")
        if CONTROL_CHARACTER.search(name) or CONTROL_CHARACTER.search(value):
            found = HIDDEN if hidden else value
            raise error(f"{field_name}[{shown(name)}]", found, "remove the control character")
    return {str.__str__(name): str.__str__(value) for name, value in given.items()}
