"""Replay runs and their members: read, locked for a step, and written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import RowMapping, Select, insert, literal_column, or_, select, update

from config import Rate
from orderflow_outbox import State
from orderflow_outbox.tables import attempt, message, replay_run, replay_run_member
from worker.rate import Bucket
from worker.replays.run import AT_WORK, Care, Outcome, Run, RunState
from worker.verdicts import SPLIT

from .bulk import insert_many
from .many import Many
from .transactions import Transaction

_LAST = (State.DELIVERED, State.DEAD, State.SUPERSEDED, State.CANCELLED)
_COUNTS = (
    "next_place",
    "left_out",
    "sent",
    "delivered",
    "failed",
    "others",
    "judged",
    "judged_failed",
    "latest",
)

member = replay_run_member
# A literal, so that a planner can tell that the partial index covers the statement.
_is_sent = member.c.outcome == literal_column(f"'{Outcome.SENT}'")
_waits = member.c.outcome == Outcome.WAITING.value
_write_ends = Many(
    "ended",
    {
        "of_run": member.c.run_id.type,
        "of_message": member.c.message_id.type,
        "to_outcome": member.c.outcome.type,
    },
    lambda given: (
        update(member)
        .where(member.c.run_id == given["of_run"], member.c.message_id == given["of_message"])
        .values(outcome=given["to_outcome"])
    ),
)


class End(NamedTuple):
    """The end of a member's replay."""

    message_id: int
    outcome: Outcome


class Turn(NamedTuple):
    """What came of a member's turn.

    Attributes:
        replay: the number of its replay, None where it was left out.
        said: why it was left out.
    """

    message_id: int
    replay: int | None
    said: str | None = None


def insert_run(transaction: Transaction, run: Run) -> int:
    """Store a new run; return its number."""
    rate, now = run.care.rate, transaction.now
    values = {
        "begun_at": now,
        "begun_by": run.begun_by,
        "why": run.why,
        "wanted": run.wanted,
        "canary": run.care.canary,
        "canary_seconds": run.care.patience.total_seconds(),
        "rate_requests": rate and rate.requests,
        "rate_seconds": rate and rate.per.total_seconds(),
        "stop_share": run.care.stop_share,
        "total": run.total,
        "chosen": run.chosen,
        **_changing(run),
    }
    number: int = transaction.connection.execute(
        insert(replay_run).returning(replay_run.c.id), values
    ).scalar_one()
    return number


def insert_members(transaction: Transaction, run_id: int, members: Sequence[tuple[int, str | None]]) -> None:
    """Store the members of a run.

    Args:
        members: numbers of messages in their turn, and why one is left out from the start; those come last.
    """
    rows = [
        {
            "run_id": run_id,
            "message_id": message_id,
            "place": place if said is None else None,
            "outcome": Outcome.WAITING.value if said is None else Outcome.LEFT_OUT.value,
            "said": said,
        }
        for place, (message_id, said) in enumerate(members)
    ]
    if rows:
        insert_many(transaction.connection, member, rows)


def unfinished(transaction: Transaction) -> list[Run]:
    """Return the runs that go on by themselves, or of which replays are under way, the first begun first."""
    ended = replay_run.c.delivered + replay_run.c.failed + replay_run.c.others
    wanted = or_(replay_run.c.state.in_([each.value for each in AT_WORK]), replay_run.c.sent > ended)
    return _runs(transaction, select(replay_run).where(wanted).order_by(replay_run.c.id))


def latest(transaction: Transaction, limit: int) -> list[Run]:
    """Return the latest runs, the newest first."""
    return _runs(transaction, select(replay_run).order_by(replay_run.c.id.desc()).limit(limit))


def find(transaction: Transaction, run_id: int) -> Run | None:
    """Return a run, None where there is none."""
    return next(iter(_runs(transaction, select(replay_run).where(replay_run.c.id == run_id))), None)


def lock(transaction: Transaction, run_id: int, *, waits: bool = True) -> Run | None:
    """Return a run, locked until the transaction ends; None where there is none.

    Args:
        waits: whether it is waited for, should another have locked it; else that is None, too.
    """
    statement = select(replay_run).where(replay_run.c.id == run_id).with_for_update(skip_locked=not waits)
    return next(iter(_runs(transaction, statement)), None)


def write(transaction: Transaction, run: Run) -> None:
    """Write a run that is locked."""
    transaction.connection.execute(update(replay_run).where(replay_run.c.id == run.id).values(_changing(run)))


def next_members(transaction: Transaction, run: Run, number: int) -> list[int]:
    """Return the messages whose turn is next, in their turn: fewer than `number` are all that are left.

    Places are more than turns where members were purged, so a place alone does not tell whose turn was.
    """
    statement = (
        select(member.c.message_id)
        .where(member.c.run_id == run.id, member.c.place >= run.next_place, _waits)
        .order_by(member.c.place)
        .limit(number)
    )
    return list(transaction.connection.scalars(statement))


def write_turns(transaction: Transaction, run_id: int, turns: Sequence[Turn]) -> None:
    """Write what came of the turns of members."""
    for turn in turns:
        outcome = Outcome.LEFT_OUT if turn.replay is None else Outcome.SENT
        transaction.connection.execute(
            update(member)
            .where(member.c.run_id == run_id, member.c.message_id == turn.message_id)
            .values(outcome=outcome.value, replay=turn.replay, said=turn.said)
        )


def ends(transaction: Transaction, run_id: int, limit: int) -> list[End]:
    """Return replays of a run that have ended and are not noted yet, those first that ended first."""
    statement = (
        select(member.c.message_id, message.c.state, attempt.c.reason)
        .select_from(member)
        .outerjoin(message, message.c.id == member.c.replay)
        .outerjoin(attempt, (attempt.c.message_id == message.c.id) & (attempt.c.n == message.c.attempts))
        .where(
            member.c.run_id == run_id,
            _is_sent,
            or_(message.c.state.is_(None), message.c.state.in_([each.value for each in _LAST])),
        )
        .order_by(message.c.finished_at, message.c.id)
        .limit(limit)
    )
    return [
        End(row.message_id, _outcome(row.state, row.reason))
        for row in transaction.connection.execute(statement)
    ]


def note_ends(transaction: Transaction, run_id: int, ended: Sequence[End]) -> None:
    """Write down how members of a run have ended."""
    rows = [
        {"of_run": run_id, "of_message": each.message_id, "to_outcome": each.outcome.value} for each in ended
    ]
    if rows:
        _write_ends.run(transaction.connection, rows)


def members(
    transaction: Transaction, run_id: int, outcomes: Sequence[Outcome], limit: int
) -> list[RowMapping]:
    """Return members of a run that came to one of `outcomes`, in order of their numbers."""
    statement = (
        select(member)
        .where(member.c.run_id == run_id, member.c.outcome.in_([each.value for each in outcomes]))
        .order_by(member.c.message_id)
        .limit(limit)
    )
    return list(transaction.connection.execute(statement).mappings().all())


def _outcome(state: str | None, reason: str | None) -> Outcome:
    if state is None:
        return Outcome.GONE
    return Outcome.SPLIT if state == State.DELIVERED and reason == SPLIT else Outcome(state)


def _changing(run: Run) -> dict[str, Any]:
    bucket = run.bucket
    return {
        "state": run.state.value,
        "goes_on_as": run.goes_on_as and run.goes_on_as.value,
        "said": run.said,
        "changed_at": run.changed_at,
        "changed_by": run.changed_by,
        "canary_sent_at": run.canary_sent_at,
        "rate_tokens": bucket and bucket.tokens,
        "rate_at": bucket and bucket.at,
        **{name: getattr(run, name) for name in _COUNTS},
    }


def _runs(transaction: Transaction, statement: Select[Any]) -> list[Run]:
    return [_run_of(row) for row in transaction.connection.execute(statement).mappings()]


def _run_of(row: RowMapping) -> Run:
    rate = row["rate_requests"] and Rate(
        requests=row["rate_requests"], per=timedelta(seconds=row["rate_seconds"])
    )
    same = ("id", "begun_at", "begun_by", "why", "wanted", "changed_at", "changed_by", "total", "chosen")
    return Run(
        **{name: row[name] for name in (*same, *_COUNTS, "canary_sent_at", "said")},
        care=Care(row["canary"], timedelta(seconds=row["canary_seconds"]), rate, row["stop_share"]),
        state=RunState(row["state"]),
        goes_on_as=row["goes_on_as"] and RunState(row["goes_on_as"]),
        bucket=None if row["rate_at"] is None else Bucket(row["rate_tokens"], row["rate_at"]),
    )
