"""The pages of the console that people see, by the names of their pictures: a new page needs a look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlencode

from worker.web.app import routes
from worker.web.roles import Guarded


def _search(line: str) -> str:
    return f"/search?{urlencode({'q': line})}"


LOOKS: Mapping[str, str] = {
    "sign-in": "/sign-in",
    "overview": "/",
    "search": _search("in:dead after:1d"),
    "search-by-text": _search('"is not known"'),
    "message": "/messages/{dead}",
    "edit": "/messages/{dead}/edit",
    "delivered": "/messages/{replay}",
    "dead": "/dead",
    "dry-run": "/dead/replay?reason=items_failed",
    "discard": "/dead/discard?reason=items_failed",
    "replays": "/replays",
    "replay-run": "/replays/{run}",
    "destinations": "/destinations",
    "incidents": "/incidents",
    "audit": "/audit",
}
"""Addresses; in braces stand numbers of the telling data. Their order is that of the story."""
SCHEMES = ("light", "dark")

_MESSAGE = "/messages/{message:number}"
NO_PAGES = frozenset(
    {
        "/find",
        "/search/csv",
        f"{_MESSAGE}/document",
        f"{_MESSAGE}/replies/{{attempt:number}}",
        f"{_MESSAGE}/unmasked",
        f"{_MESSAGE}/unmasked/document",
        f"{_MESSAGE}/unmasked/replies/{{attempt:number}}",
        f"{_MESSAGE}/unmasked/curl",
        "/{path:path}",
    }
)
"""What leads elsewhere, is a file to keep, looks as another does, or says that there is no such page."""


def routes_not_seen(addresses: Iterable[str]) -> list[str]:
    """Return the routes of pages that none of these addresses is of."""
    paths = [each.partition("?")[0] for each in addresses]
    return [
        route.path
        for route in routes()
        if isinstance(route, Guarded) and "GET" in (route.methods or ()) and route.path not in NO_PAGES
        if not any(route.path_regex.match(path) for path in paths)
    ]
