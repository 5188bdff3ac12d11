"""The overview: how everything stands, on one page."""

from __future__ import annotations

import logging

from starlette.responses import Response

from config import Role, in_words
from worker.database import DatabaseTrouble, trouble_in_one_line
from worker.notes import notes_of, state_in_words
from worker.severities import severity_of
from worker.status import Way, look_at
from worker.store.standing import AGES
from worker.store.throughput import Throughput, throughput
from worker.web.charts import HEIGHT, LEFT, RIGHT, SPANS, WIDTH, Span, bar_chart, line_chart
from worker.web.console import Visit
from worker.web.sessions import LIVE

log = logging.getLogger(__name__)

MOODS = {Way.OPEN: "good", Way.PAUSED: "calm", Way.PROBING: "warning"}
"""How each way to a destination is shown; any other is bad."""


def page(visit: Visit) -> Response:
    """Show charts, destinations, ages and open incidents."""
    span = SPANS.get(visit.query.get("span", ""), SPANS["hour"])
    with visit.store.reading() as transaction:
        status = look_at(transaction, visit.console.configuration.destinations)
    renews_itself = LIVE in visit.request.headers
    flow = None if renews_itself and not span.is_live else _flow(visit, span)
    texts = visit.may(Role.OPERATOR)
    return visit.page(
        "overview.html",
        now=status.now,
        status=status,
        ways={each.name: state_in_words(each, status.now) for each in status.destinations},
        moods={each.name: MOODS.get(each.way, "bad") for each in status.destinations},
        notes=[
            visit.console.personal.text(note)
            for each in status.destinations
            for note in notes_of(each, status.now, texts)
        ],
        ages=[*(in_words(each) for each in AGES), "older"],
        severities={row["id"]: severity_of(row["cause"]) for row in status.incidents},
        spans=SPANS.values(),
        span=span,
        flow=flow,
        bars=flow and bar_chart(flow),
        lines=flow and line_chart(flow),
        renews_itself=renews_itself,
        size={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT},
        texts=texts,
    )


def _flow(visit: Visit, span: Span) -> Throughput | None:
    """Return the attempts of a span; None where they are so many that the database does not tell in time."""
    try:
        with trouble_in_one_line(), visit.store.reading() as transaction:
            return throughput(transaction, span.length, span.step)
    except DatabaseTrouble as error:
        log.warning("the charts are left out: %s", error)
        return None
