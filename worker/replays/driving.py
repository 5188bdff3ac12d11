"""What engines do for replay runs: a step at a time, each a transaction of its own.

Any engine may make the next step, one of them at a time: the run's row is locked for it. So a run goes on
without whoever began it, and a step that dies with its process has not happened.
"""

from __future__ import annotations

from dataclasses import dataclass

from orderflow_outbox import Catalogue
from worker.by_hand import NotPossible
from worker.gate import THE_SERVICE
from worker.store import replay_runs
from worker.store.burying import close_settled_incidents
from worker.store.replay_runs import Turn
from worker.store.resolving import note_audit
from worker.store.transactions import Store, Transaction

from .deciding import moved_on, room, with_ends, with_turns
from .replaying import replay_one
from .run import Run, RunState

TURNS_AT_ONCE = 20
"""So many messages are replayed in one step at most: on SQLite the shop waits meanwhile."""
ENDS_AT_ONCE = 500
SECONDS_BETWEEN = 1.0
"""From a step after which there was no more to do, to the next."""
RESTS = 2.0
"""After a step comes a rest so many times as long: on SQLite the shop has its turn."""

_TOLD = {RunState.STOPPED: "stop-run", RunState.FINISHED: "finish-run"}
"""What is written down that the service does by itself."""


@dataclass(frozen=True, slots=True)
class Driven:
    """What was done.

    Attributes:
        sent: how many messages were replayed.
        more: whether there may be more to do at once.
    """

    sent: int = 0
    more: bool = False


def drive(store: Store, catalogue: Catalogue) -> Driven:
    """Take each run a step further that is not finished; one that fails keeps no other from its step.

    A read comes first: an engine asks for no lock where nothing is to be done.

    Raises:
        Exception: what the first failed of that did, after the others.
    """
    with store.reading() as look:
        runs = [each for each in replay_runs.unfinished(look) if _has_work(look, each)]
    sent, more, failed = 0, False, list[Exception]()
    for each in runs:
        try:
            driven = _stepped(store, each.id, catalogue)
        except Exception as error:
            failed.append(error)
            continue
        sent += driven.sent
        more = more or driven.more
    if failed:
        raise failed[0]
    return Driven(sent, more)


def _stepped(store: Store, run_id: int, catalogue: Catalogue) -> Driven:
    with store.writing() as transaction:
        run = replay_runs.lock(transaction, run_id, waits=False)
        return Driven() if run is None else step(transaction, run, catalogue)


def pause_after(seconds: float, *, more: bool) -> float:
    """Return how long to wait until the next step, in seconds.

    Args:
        seconds: how long the last one took.
        more: whether there may be more to do at once.
    """
    resting = seconds * RESTS
    return resting if more else max(resting, SECONDS_BETWEEN)


def step(transaction: Transaction, run: Run, catalogue: Catalogue) -> Driven:
    """Note what has ended of a run that is locked, decide, and replay those whose turn it is."""
    noted, more_ends = with_ends_noted(transaction, run)
    decided, number = room(moved_on(noted, transaction.now, THE_SERVICE), transaction.now)
    asked = min(number, TURNS_AT_ONCE)
    members = replay_runs.next_members(transaction, decided, asked)
    turns = _turns(transaction, decided, members, catalogue)
    sent = sum(turn.replay is not None for turn in turns)
    # What another has dealt with may have been purged since: it is left out, and the run ends without it.
    left_out = len(turns) - sent if turns or not asked else decided.to_come
    after = moved_on(with_turns(decided, sent, left_out), transaction.now, THE_SERVICE)
    replay_runs.write(transaction, after)
    if after.state is not run.state and after.state in _TOLD:
        _tell(transaction, after)
    return Driven(sent, more=more_ends or (bool(turns) and number > sent))


def with_ends_noted(transaction: Transaction, run: Run) -> tuple[Run, bool]:
    """Return a run that is locked after what has ended of it is noted, and whether there may be more."""
    ended = replay_runs.ends(transaction, run.id, ENDS_AT_ONCE)
    replay_runs.note_ends(transaction, run.id, ended)
    return with_ends(run, [each.outcome for each in ended]), len(ended) == ENDS_AT_ONCE


def _has_work(look: Transaction, run: Run) -> bool:
    """Tell whether a step would change anything."""
    return (
        room(run, look.now)[1] > 0
        or moved_on(run, look.now, THE_SERVICE) != run
        or bool(replay_runs.ends(look, run.id, 1))
    )


def _turns(transaction: Transaction, run: Run, members: list[int], catalogue: Catalogue) -> list[Turn]:
    """Replay messages, each as a person would; say of those that cannot be why."""
    # In order of their numbers, whoever replays: two that lock the same letters otherwise would deadlock.
    turns = [_turn(transaction, run, each, catalogue) for each in sorted(members)]
    if turns:
        replay_runs.write_turns(transaction, run.id, turns)
        close_settled_incidents(transaction)
    return turns


def _turn(transaction: Transaction, run: Run, message_id: int, catalogue: Catalogue) -> Turn:
    try:
        replayed = replay_one(transaction, message_id, run.begun_by, run.why, catalogue, run=run.id)
    except NotPossible as error:
        return Turn(message_id, None, str(error))
    if not replayed.created:
        return Turn(message_id, None, f"it was replayed before, as message {replayed.replay}")
    return Turn(message_id, replayed.replay)


def _tell(transaction: Transaction, run: Run) -> None:
    detail = {"run": run.id, "sent": run.sent, "delivered": run.delivered, "failed": run.failed}
    why = run.said or run.why
    note_audit(transaction, verb=_TOLD[run.state], by=THE_SERVICE, why=why, detail=detail)
