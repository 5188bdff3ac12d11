"""A message: its whole life, and what can be done to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from config import Role
from orderflow_outbox import Resolution, State
from worker.by_hand import cancel, discard
from worker.lives import in_one_line, rescues_in_words
from worker.personal_views import masked_life
from worker.pretty import pretty
from worker.replays.replaying import replay
from worker.search.reproducing import NotReproducible, command_of
from worker.store.finding import Life, Row, life_of
from worker.web.console import Missing, Visit
from worker.web.sessions import LIVE

SHOWN_BYTES = 64 * 1024
"""Of a document or a reply; the rest comes by downloading it."""
SHOWN_ITEMS = 200
SHOWN_ATTEMPTS = 50
"""The latest ones: all that are shown are laid out anew whenever the page renews itself."""
MOODS = {State.DELIVERED: "good", State.DEAD: "bad", State.PENDING: "warning", State.SENDING: "warning"}


@dataclass(frozen=True, slots=True)
class Document:
    """A document or a reply as it is shown.

    Attributes:
        laid_out: its XML made readable; None where that cannot be done.
        raw: its beginning, as it is.
        is_cut: whether there is more.
    """

    size: int
    laid_out: str | None
    raw: str
    is_cut: bool

    @classmethod
    def of(cls, content: bytes | None) -> Document | None:
        """Return how a document is shown; None where there is none."""
        if not content:
            return None
        raw = content[:SHOWN_BYTES].decode("utf-8", "replace")
        return cls(len(content), pretty(content), raw, len(content) > SHOWN_BYTES)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt as it is shown.

    Attributes:
        items: what its reply said of the message's items; those that went well are only counted.
    """

    row: Row
    reply: Document | None
    reply_headers: Sequence[tuple[str, str]]
    request_headers: Sequence[tuple[str, str]]
    items: Sequence[Row]
    delivered_items: int
    of_items: int


def page(visit: Visit) -> Response:
    """Tell a message's whole life, with what is known of a person masked."""
    return _page(visit, is_masked=True)


def unmasked_page(visit: Visit) -> Response:
    """Tell a message's whole life as it is."""
    return _page(visit, is_masked=False)


def _page(visit: Visit, *, is_masked: bool) -> Response:
    life, now = _life(visit, is_masked=is_masked)
    address = f"/messages/{life.message['id']}"
    sees_all, renews_itself = visit.may(Role.OPERATOR), LIVE in visit.request.headers
    return visit.page(
        "message.html",
        now=now,
        life=life,
        message=life.message,
        how=in_one_line(life),
        mood=MOODS.get(State(life.message["state"]), "calm"),
        rescues=rescues_in_words(life.message["rescues"]),
        payload=Document.of(life.body["payload"]) if sees_all and not renews_itself else None,
        body_headers=pairs_of(life.body["headers"]) if sees_all else [],
        query=pairs_of(life.body["query"]) if sees_all else [],
        attempts=[_attempt(life, row, sees_all) for row in life.attempts[-SHOWN_ATTEMPTS:]],
        left_out=max(0, len(life.attempts) - SHOWN_ATTEMPTS),
        renews_itself=renews_itself,
        sees_all=sees_all,
        files=address if is_masked else f"{address}/unmasked",
        is_masked=is_masked,
        has_personal_fields=bool(visit.console.personal),
        can_replay=_is_open(life),
        can_cancel=life.message["state"] == State.PENDING,
    )


def payload(visit: Visit) -> Response:
    """Hand the document out to be kept as a file, with what is known of a person masked."""
    return _payload(visit, is_masked=True)


def unmasked_payload(visit: Visit) -> Response:
    """Hand the document out as it is, to be kept as a file."""
    return _payload(visit, is_masked=False)


def _payload(visit: Visit, *, is_masked: bool) -> Response:
    life, _ = _life(visit, is_masked=is_masked)
    if life.body["payload"] is None:
        raise Missing(f"message {life.message['id']} has no document")
    return _file(life.body["payload"], f"message-{life.message['id']}.xml")


def reply(visit: Visit) -> Response:
    """Hand a reply out as far as it is stored, with what is known of a person masked."""
    return _reply(visit, is_masked=True)


def unmasked_reply(visit: Visit) -> Response:
    """Hand a reply out as far as it is stored, as it is."""
    return _reply(visit, is_masked=False)


def _reply(visit: Visit, *, is_masked: bool) -> Response:
    life, _ = _life(visit, is_masked=is_masked)
    n = visit.number("attempt")
    found = next((row for row in life.attempts if row["n"] == n), None)
    if found is None or found["reply_body"] is None:
        raise Missing(f"there is no reply to attempt {n} of message {life.message['id']}")
    return _file(found["reply_body"], f"message-{life.message['id']}-reply-{n}.txt")


def unmasked_curl(visit: Visit) -> Response:
    """Hand out a command that makes the request again, with all but the password in it."""
    life, _ = _life(visit, is_masked=False)
    number = life.message["id"]
    try:
        with visit.store.reading() as transaction:
            command = command_of(transaction, number, visit.console.configuration)
    except NotReproducible as problem:
        raise Missing(str(problem)) from None
    return _file(command.encode(), f"message-{number}-curl.sh")


def replay_it(visit: Visit) -> Response:
    """Send a dead message again, as a new one."""
    done = replay(
        visit.store,
        visit.number("message"),
        visit.who.name,
        visit.why(),
        catalogue=visit.console.configuration.catalogue,
        force="force" in visit.form,
    )
    return visit.to(f"/messages/{done.replay}", "replayed" if done.created else "replayed-before")


def discard_it(visit: Visit) -> Response:
    """Close a dead letter without sending."""
    number = visit.number("message")
    discard(visit.store, number, visit.who.name, visit.why())
    return visit.to(f"/messages/{number}", "discarded")


def cancel_it(visit: Visit) -> Response:
    """Cancel a message that still waits."""
    number = visit.number("message")
    cancel(visit.store, number, visit.who.name, visit.why())
    return visit.to(f"/messages/{number}", "cancelled")


def _life(visit: Visit, *, is_masked: bool) -> tuple[Life, Any]:
    number = visit.number("message")
    with visit.store.reading() as transaction:
        life, now = life_of(transaction, number), transaction.now
    if life is None:
        raise Missing(f"there is no message {number}")
    personal = visit.console.personal
    return masked_life(life, personal) if personal and is_masked else life, now


def _is_open(life: Life) -> bool:
    return life.dead_letter is not None and life.dead_letter["resolution"] == Resolution.OPEN


def _attempt(life: Life, row: Row, sees_all: bool) -> Attempt:
    items = [each for each in life.items if each["n"] == row["n"]]
    others = [each for each in items if each["verdict"] != "delivered"]
    return Attempt(
        row,
        Document.of(row["reply_body"]) if sees_all else None,
        pairs_of(row["reply_headers"]) if sees_all else [],
        pairs_of(row["request_headers"]) if sees_all else [],
        others[:SHOWN_ITEMS],
        len(items) - len(others),
        len(items),
    )


def pairs_of(headers: Any) -> Sequence[tuple[str, str]]:
    """Return headers as pairs, whether they were stored as a mapping or as a list."""
    if not headers:
        return []
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(str(name), str(value)) for name, value in pairs]


def _file(content: bytes, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type="application/octet-stream", headers=headers)
