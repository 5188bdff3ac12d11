"""Replay runs as people begin, look at, stop, continue and cancel them: values in, values out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

from config import Configuration
from orderflow_outbox.errors import OutboxError
from worker.by_hand import NotPossible
from worker.store import replay_runs
from worker.store.finding import Filter, Row
from worker.store.resolving import note_audit
from worker.store.transactions import Store, Transaction

from .deciding import canary_of, continued, moved_on, stopped
from .driving import with_ends_noted
from .run import STOPPABLE, Care, Outcome, Run, RunState
from .surveying import IN_WORDS, Looked, look_at

MOST_MESSAGES = 100_000
"""So many are looked at for one run, and become members of it in one transaction: on SQLite the shop waits
meanwhile."""
TOLD_OF = (Outcome.LEFT_OUT, Outcome.DEAD, Outcome.SPLIT, Outcome.SUPERSEDED, Outcome.CANCELLED, Outcome.GONE)
"""Members that a person wants to see: those that were not simply delivered."""


class NoSuchRun(OutboxError):
    """There is no replay run of that number."""


class NoneMeant(NotPossible):
    """There is no open dead letter of the kind that was to be replayed."""

    def __init__(self) -> None:
        super().__init__("there is no such dead letter")


@dataclass(frozen=True, slots=True)
class Shown:
    """A run, and its members that were not simply delivered."""

    run: Run
    members: Sequence[Row]


def begin(store: Store, wanted: Filter, care: Care, by: str, why: str, configuration: Configuration) -> Run:
    """Begin a run over the dead messages wanted; engines go on with it from here.

    Which messages belong to it is fixed now. Those that would not be sent are left out, each with its reason.

    Args:
        wanted: which messages.
        care: with how much care.
        by: who begins it.

    Raises:
        NotPossible: none of them would be sent, or they are more than `MOST_MESSAGES`.
        NoneMeant: there are none.
    """
    looked = list(islice(look_at(store, wanted, configuration), MOST_MESSAGES + 1))
    if len(looked) > MOST_MESSAGES:
        raise NotPossible(f"these are more than {MOST_MESSAGES} messages: name fewer by a filter")
    chosen = [each for each in looked if each.bar is None]
    if not chosen:
        raise NotPossible("nothing is to be replayed: a dry run tells why") if looked else NoneMeant
    ordered, canary = _in_turn(chosen, care.canary)
    left_out = [(each.id, _bar_in_words(each)) for each in looked if each.bar is not None]
    with store.writing() as transaction:
        now = transaction.now
        new = Run(
            id=0,
            begun_at=now,
            begun_by=by,
            why=why,
            wanted=_as_json(wanted),
            care=replace(care, canary=canary),
            state=RunState.CANARY if canary else RunState.RUNNING,
            changed_at=now,
            changed_by=by,
            total=len(looked),
            chosen=len(chosen),
            left_out=len(left_out),
        )
        run = replace(new, id=replay_runs.insert_run(transaction, new))
        members = [(each.id, None) for each in ordered]
        replay_runs.insert_members(transaction, run.id, [*members, *left_out])
        _note(transaction, "begin-run", run, by, why, total=run.total, chosen=run.chosen)
        return run


def latest(store: Store, limit: int) -> list[Run]:
    """Return the latest runs, the newest first."""
    with store.reading() as transaction:
        return replay_runs.latest(transaction, limit)


def find(store: Store, run_id: int) -> Run:
    """Return a run as it stands.

    Raises:
        NoSuchRun: there is none.
    """
    with store.reading() as transaction:
        return _known(replay_runs.find(transaction, run_id), run_id)


def show(store: Store, run_id: int, limit: int, outcomes: Sequence[Outcome] = TOLD_OF) -> Shown:
    """Return a run, and its members that were not simply delivered, `limit` of them at most.

    Args:
        outcomes: those of the members that are wanted.

    Raises:
        NoSuchRun: there is none.
    """
    with store.reading() as transaction:
        run = _known(replay_runs.find(transaction, run_id), run_id)
        return Shown(run, replay_runs.members(transaction, run_id, outcomes, limit))


def stop(store: Store, run_id: int, by: str, why: str) -> Run:
    """Stop a run: what it has sent stays as it is, and nothing more is sent until it is continued.

    Raises:
        NoSuchRun: there is none.
        NotPossible: all is sent, or it does not go on anyway.
    """

    def act(run: Run, now: datetime) -> Run:
        if run.state not in STOPPABLE:
            raise NotPossible(f"run {run.id} is {run.state}: there is nothing to stop")
        return stopped(run, now, by, why, run.state)

    return _changed(store, run_id, "stop-run", by, why, act)


def go_on(store: Store, run_id: int, by: str, why: str) -> Run:
    """Continue a run that is stopped: with its canary, if a person stopped it in that, else with the rest.

    It is stopped again only by what ends from now on.

    Raises:
        NoSuchRun: there is none.
        NotPossible: it is not stopped.
    """

    def act(run: Run, now: datetime) -> Run:
        if run.state is not RunState.STOPPED:
            raise NotPossible(f"run {run.id} is {run.state}: only a stopped one can be continued")
        return moved_on(continued(run, now, by), now, by)

    return _changed(store, run_id, "continue-run", by, why, act)


def cancel_run(store: Store, run_id: int, by: str, why: str) -> Run:
    """End a run for good: what it has sent stays as it is, the rest stay dead letters.

    Raises:
        NoSuchRun: there is none.
        NotPossible: all is sent, or it has ended.
    """

    def act(run: Run, now: datetime) -> Run:
        if run.state not in (*STOPPABLE, RunState.STOPPED):
            raise NotPossible(f"run {run.id} is {run.state}: there is nothing to cancel")
        return replace(run, state=RunState.CANCELLED, said=why, changed_at=now, changed_by=by)

    return _changed(store, run_id, "cancel-run", by, why, act)


def _changed(
    store: Store, run_id: int, verb: str, by: str, why: str, act: Callable[[Run, datetime], Run]
) -> Run:
    with store.writing() as transaction:
        run = _known(replay_runs.lock(transaction, run_id), run_id)
        # First, since a continued run is judged by what ends from now on.
        noted, _ = with_ends_noted(transaction, run)
        after = act(noted, transaction.now)
        replay_runs.write(transaction, after)
        _note(transaction, verb, after, by, why, sent=after.sent, failed=after.failed)
        return after


def _known(run: Run | None, run_id: int) -> Run:
    if run is None:
        raise NoSuchRun(f"there is no replay run {run_id}: python -m worker replays lists them")
    return run


def _note(transaction: Transaction, verb: str, run: Run, by: str, why: str, **counts: int) -> None:
    note_audit(transaction, verb=verb, by=by, why=why, detail={"run": run.id, **counts})


def _in_turn(chosen: Sequence[Looked], canary: int) -> tuple[list[Looked], int]:
    """Return messages in their turn, and how many of the first are the canary.

    It is taken of those that are sent at once: one that waits for something else says nothing for long.
    """
    ready = sorted((each for each in chosen if each.is_ready), key=lambda each: (each.cause, each.id))
    first = canary_of(ready or chosen, canary)
    taken = {each.id for each in first}
    return [*first, *(each for each in chosen if each.id not in taken)], len(first)


def _bar_in_words(looked: Looked) -> str:
    assert looked.bar is not None  # noqa: S101 (asked by the caller)
    finding, text = looked.bar
    return f"{IN_WORDS[finding]}: {text}"


def _as_json(wanted: Filter) -> dict[str, Any]:
    given = {name: value for name, value in asdict(wanted).items() if value}
    if wanted.since:
        given["since"] = wanted.since.isoformat()
    return given
