"""Destinations: how each stands; held, resumed and limited by hand."""

from __future__ import annotations

from starlette.responses import Response

from config import Rate, Role
from worker.by_hand import hold, resume
from worker.limiting import limit
from worker.limits import Limits
from worker.notes import notes_of, state_in_words
from worker.status import look_at
from worker.store.standing import AGES
from worker.web.console import Missing, Visit

from .overview import MOODS


def page(visit: Visit) -> Response:
    """Show each destination, with what can be done to it."""
    with visit.store.reading() as transaction:
        status = look_at(transaction, visit.console.configuration.destinations)
    texts = visit.may(Role.OPERATOR)
    return visit.page(
        "destinations.html",
        now=status.now,
        status=status,
        ways={each.name: state_in_words(each, status.now) for each in status.destinations},
        moods={each.name: MOODS.get(each.way, "bad") for each in status.destinations},
        notes={
            each.name: [visit.console.personal.text(note) for note in notes_of(each, status.now, texts)]
            for each in status.destinations
        },
        oldest=AGES[-1],
    )


def hold_it(visit: Visit) -> Response:
    """Stop sending to a destination."""
    hold(visit.store, _name(visit), visit.who.name, visit.why())
    return visit.to("/destinations", "held")


def resume_it(visit: Visit) -> Response:
    """Send to a destination again."""
    resume(visit.store, _name(visit), visit.who.name, visit.why())
    return visit.to("/destinations", "resumed")


def limit_it(visit: Visit) -> Response:
    """Send to a destination less than its configuration allows, or as much again."""
    name = _name(visit)
    destination = visit.console.configuration.destinations[name]
    limits = Limits(visit.whole("window"), _rate(visit))
    limit(visit.store, name, destination, limits, visit.who.name, visit.why())
    return visit.to("/destinations", "unlimited" if limits == Limits() else "limited")


def _name(visit: Visit) -> str:
    name: str = visit.request.path_params["destination"]
    if name not in visit.console.configuration.destinations:
        raise Missing(f"there is no destination {name}")
    return name


def _rate(visit: Visit) -> Rate | None:
    requests = visit.whole("rate")
    return None if requests is None else Rate(requests=requests, per="1m")  # type: ignore[arg-type]
