"""Many dead letters at once: a dry run first, then a replay run; or discarded, once their number was seen."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.responses import Response

from config import Rate
from worker.by_hand import NotPossible
from worker.discarding import Counted, count, discard_many
from worker.personal_views import masked_examples
from worker.replays import runs
from worker.replays.run import Care
from worker.replays.surveying import IN_WORDS, Finding, survey
from worker.store.watching import look
from worker.troubles import alive
from worker.web.chosen import meant
from worker.web.console import Visit

USUAL_CANARY = 10
USUAL_STOP_PERCENT = 20
DISCARDING_SECONDS = 3.0
"""For one request: what is left then is told, and goes on by another."""


def dry_run(visit: Visit) -> Response:
    """Tell what a replay of the letters meant would come to, before anything is sent."""
    chosen = meant(visit)
    configuration = visit.console.configuration
    made = survey(visit.console.patient, chosen.wanted, configuration)
    with visit.store.reading() as transaction:
        facts = look(transaction)
        findings = [
            (
                IN_WORDS[each],
                found.number,
                masked_examples(transaction, found.examples, visit.console.personal),
            )
            for each in Finding
            if (found := made.found.get(each)) is not None
        ]
    return visit.page(
        "dry_run.html",
        chosen=chosen,
        survey=made,
        findings=findings,
        canary=min(USUAL_CANARY, made.sendable),
        stop=USUAL_STOP_PERCENT,
        is_silent=not alive(facts, configuration.settings.alerts.silence),
    )


def begin_it(visit: Visit) -> Response:
    """Begin a run over the letters meant."""
    chosen = meant(visit)
    care = _care(visit)
    run = runs.begin(
        visit.console.patient,
        chosen.wanted,
        care,
        visit.who.name,
        visit.why(),
        visit.console.configuration,
    )
    return visit.to(f"/replays/{run.id}", "begun")


def confirm_discard(visit: Visit) -> Response:
    """Ask whether so many letters are meant."""
    chosen = meant(visit)
    counted = count(visit.store, chosen.wanted)
    return visit.page(
        "discard.html", chosen=chosen, counted=counted, total=counted.number, discarded=None, why=""
    )


def discard_them(visit: Visit) -> Response:
    """Discard the letters that were counted, as far as one request goes, and tell how far that was."""
    chosen, why = meant(visit), visit.why()
    total, counted = visit.whole("total") or 0, _counted(visit)
    seconds = DISCARDING_SECONDS
    done = discard_many(visit.store, chosen.wanted, counted, visit.who.name, why, seconds=seconds)
    rest = Counted(done.left, counted.until)
    before = total - counted.number
    return visit.page(
        "discard.html", chosen=chosen, counted=rest, total=total, discarded=before + done.number, why=why
    )


def _care(visit: Visit) -> Care:
    """Return with how much care the form asks for."""
    per_minute = visit.whole("rate")
    percent = visit.whole("stop", most=100)
    return Care(
        canary=visit.whole("canary", least=0) or 0,
        rate=None if per_minute is None else Rate(requests=per_minute, per="1m"),  # type: ignore[arg-type]
        stop_share=None if percent is None else percent / 100,
    )


def _counted(visit: Visit) -> Counted:
    """Return what was counted when it was asked whether so many are meant."""
    try:
        said = datetime.fromisoformat(visit.form.get("until", ""))
        until = said.astimezone(UTC) if said.tzinfo else None
    except (ValueError, OverflowError):
        until = None
    number = visit.whole("number")
    if until is None or number is None:
        raise NotPossible("it is not said how many there were: go back and load the page anew")
    return Counted(number, until)
