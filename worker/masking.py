"""Masking: a receiver that repeats our credentials, as a proxy's error page may, has them stored nowhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from html import escape
from typing import TypeVar
from urllib.parse import quote, quote_plus

from .deliveries import Failure, Outcome, Reply
from .verdicts import ItemResult, Verdict

V = TypeVar("V", bound=Verdict)

MASKED = "********"
SECRET_HEADERS = frozenset({"authorization", "password"})
WITHHELD = "the reply repeats credentials, and is not told"


def masked(headers: Mapping[str, str]) -> dict[str, str]:
    """Return request headers with every credential replaced."""
    return {name: MASKED if name.lower() in SECRET_HEADERS else value for name, value in headers.items()}


class Masking:
    """Finds the credentials of one destination in replies.

    Args:
        credentials: the password, and what is made of it for the headers. Each is looked for as it is, and as
            an address, a JSON document or a page has it, which may show JSON or what was escaped before.
    """

    def __init__(self, credentials: Iterable[str]) -> None:
        forms = {form for each in credentials for form in forms_of(each) if each}
        # The longest first: one may be a part of another.
        self._forms = sorted(forms, key=len, reverse=True)
        self._bytes = [form.encode() for form in self._forms]

    def finds(self, reply: Reply) -> bool:
        """Tell whether `reply` repeats a credential."""
        headers = "\n".join(["\n".join(header) for header in reply.headers])
        return any(form in reply.body for form in self._bytes) or any(form in headers for form in self._forms)

    def text(self, text: str) -> str:
        """Return `text` with every credential replaced."""
        for form in self._forms:
            text = text.replace(form, MASKED)
        return text

    def failure(self, failure: Failure) -> Failure:
        """Return `failure` with every credential replaced."""
        return replace(failure, text=self.text(failure.text))

    def reply(self, reply: Reply) -> Reply:
        """Return `reply` with every credential replaced."""
        body = reply.body
        for form in self._bytes:
            body = body.replace(form, MASKED.encode())
        headers = tuple((self.text(name), self.text(value)) for name, value in reply.headers)
        return replace(reply, headers=headers, body=body)


def forms_of(text: str) -> tuple[str, ...]:
    """Return a text as it is, and as an address, a JSON document or a page has it."""
    quoted = (quote(text), quote(text, safe=""), quote_plus(text))
    texts = (text, json.dumps(text)[1:-1])
    return *texts, *map(escape, texts), escape(escape(text)), *quoted


def retold(outcome: Outcome, shown: Outcome) -> Outcome:
    """Return an outcome with the masked reply and the words of what was made of that.

    Args:
        outcome: what was made of the reply as it came; it decides.
        shown: what was made of the masked one. Where that differs nothing is told: it may be the credential
            that the difference lies in.
    """
    by_place = {item.place: item for item in shown.items}
    items = tuple(_item_retold(item, by_place.get(item.place)) for item in outcome.items)
    verdict = outcome.verdict
    if verdict is not None and shown.verdict is not None:
        verdict = verdict_retold(verdict, shown.verdict)
    # It is not what came: nobody shall judge it again.
    reply = None if shown.reply is None else replace(shown.reply, complete=False)
    return replace(outcome, verdict=verdict, reply=reply, items=items)


def verdict_retold(verdict: V, shown: Verdict) -> V:
    """Return a verdict in the words of another, which is of the masked reply, where it is the same one."""
    same = type(verdict) is type(shown) and verdict.why.rule == shown.why.rule
    return replace(verdict, why=replace(verdict.why, text=shown.why.text if same else WITHHELD))


def _item_retold(item: ItemResult, shown: ItemResult | None) -> ItemResult:
    if shown is None:
        why = replace(item.verdict.why, text=WITHHELD)
        return item._replace(reference="", verdict=replace(item.verdict, why=why))
    verdict = verdict_retold(item.verdict, shown.verdict)
    return item._replace(reference=shown.reference, verdict=verdict)
