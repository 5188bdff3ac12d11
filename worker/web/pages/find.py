"""The box in the header: straight to the one message that is meant, else on to the search."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response

from worker.search.language import Condition, Query, number_of
from worker.store import browsing
from worker.store.finding import message_row
from worker.web.console import Visit

LONGEST = 255
"""Of a key or a term."""


def page(visit: Visit) -> Response:
    """Go to the message of a number, a key, a term or an idempotency key, or search for the words."""
    words = "".join(each for each in visit.query.get("q", "") if each.isprintable()).strip()
    number, known = number_of(words.removeprefix("#")), visit.console.configuration.destinations
    with visit.store.reading() as transaction:
        rows = browsing.look_up(transaction, words, known, 2) if 0 < len(words) <= LONGEST else []
        if number is not None and (of_number := message_row(transaction, number)):
            rows = [of_number, *(each for each in rows if each["id"] != number)]
    if len(rows) == 1:
        return RedirectResponse(f"/messages/{rows[0]['id']}", status_code=303)
    is_key = bool(rows) and all(each["key"] == words for each in rows)
    line = str(Query((Condition("key", words),))) if is_key else words
    return RedirectResponse(f"/search?{urlencode({'q': line})}", status_code=303)
