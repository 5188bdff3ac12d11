"""Replay runs: how each goes on; stopped, continued and cancelled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from starlette.responses import Response

from config import Role
from worker.gate import THE_SERVICE
from worker.personal_data import PersonalData
from worker.personal_views import masked_members
from worker.replays import runs
from worker.replays.run import AT_WORK, FAILED, STATES_IN_WORDS, STOPPABLE, Run, RunState
from worker.replays.runs import NoSuchRun
from worker.web.console import Missing, Visit

SHOWN_RUNS = 50
SHOWN_MEMBERS = 100

T = TypeVar("T")

_OTHERS = tuple(each for each in runs.TOLD_OF if each not in FAILED)


def page(visit: Visit) -> Response:
    """List the latest runs."""
    with visit.store.reading() as transaction:
        now = transaction.now
    return visit.page(
        "replays.html",
        now=now,
        runs=[_masked(run, visit.console.personal) for run in runs.latest(visit.store, SHOWN_RUNS)],
        words=STATES_IN_WORDS,
        mood=_mood,
        texts=visit.may(Role.OPERATOR),
    )


def run_page(visit: Visit) -> Response:
    """Show how a run goes on, and what became of its messages that were not simply delivered."""
    number, personal = visit.number("run"), visit.console.personal
    failed = _known(number, lambda: runs.show(visit.store, number, SHOWN_MEMBERS, tuple(FAILED)))
    others = runs.show(visit.store, number, SHOWN_MEMBERS, _OTHERS)
    with visit.store.reading() as transaction:
        now = transaction.now
        members = [masked_members(transaction, each.members, personal) for each in (failed, others)]
    return visit.page(
        "replay.html",
        now=now,
        run=_masked(failed.run, personal),
        failed=members[0],
        others=members[1],
        most=SHOWN_MEMBERS,
        words=STATES_IN_WORDS[failed.run.state],
        mood=_mood(failed.run),
        can_stop=failed.run.state in STOPPABLE,
        can_continue=failed.run.state is RunState.STOPPED,
        service=THE_SERVICE,
        texts=visit.may(Role.OPERATOR),
    )


def stop_it(visit: Visit) -> Response:
    """Send nothing more of a run until it is continued."""
    return _changed(visit, runs.stop, "run-stopped")


def continue_it(visit: Visit) -> Response:
    """Go on with a run that is stopped."""
    return _changed(visit, runs.go_on, "run-continued")


def cancel_it(visit: Visit) -> Response:
    """End a run for good."""
    return _changed(visit, runs.cancel_run, "run-cancelled")


def _changed(visit: Visit, act: Callable[..., Run], done: str) -> Response:
    number, why = visit.number("run"), visit.why()
    _known(number, lambda: act(visit.store, number, visit.who.name, why))
    return visit.to(f"/replays/{number}", done)


def _known(number: int, of: Callable[[], T]) -> T:
    """Return what is asked of a run, and say so where there is none."""
    try:
        return of()
    except NoSuchRun:
        raise Missing(f"there is no replay run {number}") from None


def _masked(run: Run, personal: PersonalData) -> Run:
    """Return a run whose texts name nothing of what is known of a person by its field."""
    return replace(run, why=personal.text(run.why), said=run.said and personal.text(run.said))


def _mood(run: Run) -> str:
    if run.state is RunState.FINISHED:
        return "warning" if run.failed else "good"
    return "calm" if run.state in AT_WORK else "bad"
