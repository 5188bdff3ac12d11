"""Incidents: those that are open, which can be acknowledged, and those that are over."""

from __future__ import annotations

from starlette.responses import Response

from config import Role
from worker.acknowledging import NoSuchIncident, acknowledge
from worker.personal_views import masked_incidents
from worker.severities import severity_of
from worker.store import browsing
from worker.store.finding import open_incidents
from worker.web.console import Missing, Visit

ON_A_PAGE = 50


def page(visit: Visit) -> Response:
    """List incidents."""
    before = visit.place("before")
    with visit.store.reading() as transaction:
        opened = open_incidents(transaction)
        past = browsing.past_incidents(transaction, ON_A_PAGE + 1, before)
        texts = visit.may(Role.OPERATOR)
        shown = masked_incidents(transaction, opened, visit.console.personal) if texts else opened
    return visit.page(
        "incidents.html",
        now=transaction.now,
        opened=shown,
        past=past[:ON_A_PAGE],
        severities={row["id"]: severity_of(row["cause"]) for row in (*opened, *past)},
        before=past[ON_A_PAGE - 1]["id"] if len(past) > ON_A_PAGE else None,
        texts=texts,
    )


def acknowledge_it(visit: Visit) -> Response:
    """Take note of an incident."""
    try:
        acknowledge(visit.store, visit.number("incident"), visit.who.name, visit.why())
    except NoSuchIncident:
        raise Missing(f"incident {visit.number('incident')} is not open (any more)") from None
    return visit.to("/incidents", "acknowledged")
