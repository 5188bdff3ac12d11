"""The values of one delivery, from the claim to what is recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from orderflow_outbox import State

from .verdicts import ItemResult, Verdict, Why

UNMISTAKABLE = frozenset({429, 503})
"""Statuses that tell of the destination, whatever was sent (RFC 6585 section 4, RFC 9110 section 15.6.4)."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A message leased to this engine, with all that is needed to send it.

    Attributes:
        token: the fencing token; whoever no longer holds it can write nothing.
        attempt: the number of this attempt, from 1.
        tries: failures counted against the schedule so far.
        edited: whether its document is another than that which was sent under its order's first identity.
        replay_of: the dead message that this one sends again; None for any other.
        claimed_at: the moment of the claim by the database's clock.
    """

    id: int
    destination: str
    operation: str
    channel: str | None
    organisation: str | None
    key: str | None
    version: int | None
    idempotency_key: str
    token: int
    attempt: int
    tries: int
    in_doubt: bool
    edited: bool
    created_at: datetime
    expires_at: datetime | None
    replay_of: int | None
    payload: bytes | None
    query: Mapping[str, str]
    headers: Mapping[str, str]
    claimed_at: datetime


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request ready to send. `headers` hold the credentials, `shown_headers` mask them.

    Attributes:
        private_addresses: whether it may go to an inner address.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    shown_headers: Mapping[str, str]
    body: bytes | None
    private_addresses: bool = False

    @property
    def line(self) -> str:
        return f"{self.method} {self.url}"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read up to a limit.

    Attributes:
        complete: False when the body was cut off or went past the limit.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    complete: bool = True

    def header(self, name: str) -> str:
        """Return the value of a header, or an empty string."""
        return next((value for key, value in self.headers if key.lower() == name), "")


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer.

    Attributes:
        reason: a code, such as `connect_failed`, `timeout`, `connection_lost`, `address_refused`.
        text: one line for a person.
        bytes_may_have_left: False only when the connection was never made.
    """

    reason: str
    text: str
    bytes_may_have_left: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one claimed message in this engine's hands.

    `verdict` is None for a message given back unsent or cut short by a stop.

    Attributes:
        checked_by: the query that was asked instead of sending the message.
        checkable: whether a check can settle the doubt that the message is in.
        probe: whether it was let through the gate of its destination as a probe.
    """

    claim: Claim
    verdict: Verdict | None
    request: Request | None = None
    reply: Reply | None = None
    in_doubt: bool = False
    started_after: float = 0.0
    seconds: float = 0.0
    items: tuple[ItemResult, ...] = ()
    checked_by: str | None = None
    checkable: bool = False
    probe: bool = False

    @property
    def is_unmistakable(self) -> bool:
        """Whether no message can bring about such a failure: nothing was sent, or the reply says so itself.

        Others are not so clear: a message may crash the receiver, which then answers 500, or 502, or not
        at all.
        """
        return not self.in_doubt if self.reply is None else self.reply.status in UNMISTAKABLE


@dataclass(frozen=True, slots=True)
class Child:
    """Items of a message that go on as a message of their own.

    Attributes:
        payload: the document with their bytes alone.
        terms: the words it is found by, in one text.
        why: why it is dead, or is sent again.
    """

    payload: bytes
    terms: str
    state: State
    due_at: datetime | None
    tries: int
    in_doubt: bool
    blocks: bool
    why: Why


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is written of an outcome: where the message goes from here.

    Attributes:
        death: why it is dead; None otherwise.
        blocks: whether later messages of its key still wait for it.
        children: what becomes of items that went another way than the rest.
    """

    outcome: Outcome
    state: State
    due_at: datetime | None
    tries: int
    in_doubt: bool
    blocks: bool
    death: Why | None = None
    children: tuple[Child, ...] = ()

    @property
    def claim(self) -> Claim:
        return self.outcome.claim
