"""The search: the transaction log by one line, or by fields that write it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response

from config import Role
from orderflow_outbox import State
from worker.by_hand import NotPossible
from worker.search.fields import FIELDS, fields_of, with_fields
from worker.search.finding import NO_TEXTS, Results, find
from worker.search.language import LARGEST_ID, MAX_LINE_CHARACTERS, VERDICTS, Query, QueryProblem, parse
from worker.search.spreadsheets import write_csv
from worker.store.searching import MOST
from worker.web.console import Visit

from .message import MOODS

ON_A_PAGE = 50
SECONDS = 4
"""How long a search may take: less than a page may, which then tells how far it came."""
SINCE = {"1h": "the last hour", "1d": "the last 24 hours", "7d": "the last 7 days", "30d": "the last 30 days"}
NOTHING = dict.fromkeys(FIELDS, "")


def page(visit: Visit) -> Response:
    """List what a line means, the latest first; what is filled in beside it becomes a line first."""
    line, filled_in = visit.query.get("q", ""), _filled_in(visit)
    if filled_in is not None:
        try:
            written = str(with_fields(parse(line), filled_in))
        except QueryProblem as problem:
            return _page(visit, 400, line=line, filled_in=filled_in, problem=str(problem))
        return RedirectResponse(f"/search?{urlencode({'q': written})}", status_code=303)
    try:
        query = parse(line)
        results = _found(visit, query, ON_A_PAGE)
    except QueryProblem as problem:
        return _page(visit, 400, line=line, problem=str(problem))
    return _page(visit, line=line, filled_in=fields_of(query), results=results)


def as_csv(visit: Visit) -> Response:
    """Hand out what a line means, to be kept as a file for a spreadsheet."""
    try:
        results = _found(visit, parse(visit.query.get("q", "")), MOST)
    except QueryProblem as problem:
        raise NotPossible(str(problem)) from None
    if results.out_of_time:
        raise NotPossible("the search took too long: ask for more that must hold, such as after:7d")
    written = io.StringIO()
    write_csv(written, results.hits)
    headers = {"Content-Disposition": 'attachment; filename="messages.csv"'}
    return Response(written.getvalue(), media_type="text/csv", headers=headers)


def _filled_in(visit: Visit) -> Mapping[str, str] | None:
    """Return the fields that were sent; None where the line was."""
    if visit.query.get("by") != "fields":
        return None
    return {name: visit.query.get(name, "") for name in FIELDS}


def _found(visit: Visit, query: Query, limit: int) -> Results:
    """Search for what somebody may search for."""
    may_know = query if visit.may(Role.OPERATOR) else query.without_texts()
    before = visit.place("before") or LARGEST_ID
    return find(visit.store, may_know, limit, before, SECONDS, visit.console.personal)


def _page(
    visit: Visit,
    code: int = 200,
    *,
    line: str,
    filled_in: Mapping[str, str] = NOTHING,
    problem: str = "",
    results: Results | None = None,
) -> Response:
    configuration = visit.console.configuration
    choices: dict[str, Any] = {
        "state": list(State),
        "operation": sorted(configuration.catalogue),
        "destination": sorted(configuration.destinations),
        "verdict": VERDICTS,
    }
    return visit.page(
        "search.html",
        code,
        line=line,
        longest=MAX_LINE_CHARACTERS,
        filled_in=filled_in,
        choices=choices,
        since=SINCE,
        problem=problem,
        results=results,
        no_texts="" if configuration.settings.search.texts else NO_TEXTS,
        moods=MOODS,
        most=MOST,
        is_first="before" not in visit.query,
        texts=visit.may(Role.OPERATOR),
    )
