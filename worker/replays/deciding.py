"""What is decided of a replay run: pure, a function of its counts, and `now`.

A canary goes first, spread over all of them. When it has ended the rest follows, at a rate, as long as not
too many fail again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from config.values import in_words
from worker.rate import Bucket, filled

from .run import AT_WORK, FAILED, Outcome, Run, RunState

LEAST_JUDGED = 20
"""After the canary, so many must have ended before a share of them says anything: fewer count as if the
missing ones had been delivered."""
LATEST = 50
"""The share that failed is looked at over all that have ended, and over the latest ones."""
MOST_UNDER_WAY = 500
"""So many replays of a run wait or are being sent at most: how the last ones fared decides on the next."""
LEAST_UNDER_WAY = 20
UNDER_WAY_SECONDS = 60.0
"""With a rate, so much of it is under way at most, within the two bounds above."""

DELIVERED_ONE, FAILED_ONE = ".", "x"
"""How the latest ones are written down."""

T = TypeVar("T")


def canary_of(messages: Sequence[T], number: int) -> list[T]:
    """Return a canary of messages: of as many equal stretches, the one in the middle of each.

    Those of one cause stand together, so that each cause has its share of the canary.

    Args:
        number: how many it takes, or all of them where they are fewer.
    """
    number = min(number, len(messages))
    return [messages[(2 * n + 1) * len(messages) // (2 * number)] for n in range(number)]


def with_ends(run: Run, outcomes: Sequence[Outcome]) -> Run:
    """Return a run after some of its replays have ended, in the order in which they did."""
    failed = sum(each in FAILED for each in outcomes)
    delivered = sum(each is Outcome.DELIVERED for each in outcomes)
    marks = {Outcome.DELIVERED: DELIVERED_ONE, **dict.fromkeys(FAILED, FAILED_ONE)}
    return replace(
        run,
        delivered=run.delivered + delivered,
        failed=run.failed + failed,
        others=run.others + len(outcomes) - delivered - failed,
        judged=run.judged + delivered + failed,
        judged_failed=run.judged_failed + failed,
        latest=(run.latest + "".join(marks.get(each, "") for each in outcomes))[-LATEST:],
    )


def with_turns(run: Run, sent: int, left_out: int) -> Run:
    """Return a run after some have had their turn.

    Args:
        sent: how many of them were replayed.
        left_out: how many could not be.
    """
    bucket = run.bucket and replace(run.bucket, tokens=run.bucket.tokens - sent)
    turns = run.next_place + sent + left_out
    return replace(
        run, sent=run.sent + sent, left_out=run.left_out + left_out, next_place=turns, bucket=bucket
    )


def room(run: Run, now: datetime) -> tuple[Run, int]:
    """Return a run with its bucket filled, and how many may have their turn now."""
    if run.state is RunState.CANARY:
        return run, run.care.canary - run.next_place
    if run.state is not RunState.RUNNING:
        return run, 0
    rate = run.care.rate
    if rate is None:
        # A large canary that was stopped may have left more of them than that.
        return run, max(0, min(run.to_come, MOST_UNDER_WAY - run.under_way))
    bucket = filled(run.bucket or Bucket(1.0, now), rate, now)
    most = min(max(rate.per_second * UNDER_WAY_SECONDS, LEAST_UNDER_WAY), MOST_UNDER_WAY)
    return replace(run, bucket=bucket), max(
        0, min(run.to_come, int(bucket.tokens), int(most) - run.under_way)
    )


def moved_on(run: Run, now: datetime, by: str) -> Run:
    """Return a run in the state that its counts bring it to.

    Args:
        by: in whose name it is moved on.
    """
    while (after := _next(run, now, by)) is not run:
        run = after
    return run


def stopped(run: Run, now: datetime, by: str, said: str, goes_on_as: RunState) -> Run:
    """Return a run after it was stopped."""
    return replace(_in(run, RunState.STOPPED, now, by), said=said, goes_on_as=goes_on_as)


def continued(run: Run, now: datetime, by: str) -> Run:
    """Return a stopped run going on: it is judged by what ends from now on, and the rate begins anew."""
    going_on = replace(
        _in(run, run.goes_on_as or RunState.RUNNING, now, by),
        goes_on_as=None,
        said=None,
        judged=0,
        judged_failed=0,
        latest="",
        bucket=None,
    )
    waits = going_on.state is RunState.WAITING
    return replace(going_on, canary_sent_at=now) if waits else going_on


def _next(run: Run, now: datetime, by: str) -> Run:
    """Return the run a step further, and the same one where it stays."""
    if run.state not in AT_WORK:
        return run
    too_many = None if run.state is RunState.ENDING else too_many_failed(run)
    if too_many is not None:
        return stopped(run, now, by, too_many, RunState.RUNNING)
    match run.state:
        case RunState.CANARY if run.next_place >= run.care.canary:
            return replace(_in(run, RunState.WAITING, now, by), canary_sent_at=now)
        case RunState.WAITING if not run.under_way:
            return _in(run, RunState.RUNNING, now, by)
        case RunState.WAITING if now >= (run.canary_sent_at or now) + run.care.patience:
            return stopped(run, now, by, _unended(run), RunState.RUNNING)
        case RunState.RUNNING if not run.to_come:
            return _in(run, RunState.ENDING, now, by)
        case RunState.ENDING if not run.under_way:
            return _in(run, RunState.FINISHED, now, by)
    return run


def too_many_failed(run: Run) -> str | None:
    """Return in words that more failed than may, None where they did not.

    The canary is judged as soon as so many of it have failed that the rest of it could not make up for them.
    """
    share = run.care.stop_share
    if share is None:
        return None
    past = f"past the {share * 100:g} % at which it stops"
    if run.state in (RunState.CANARY, RunState.WAITING):
        failed = run.judged_failed
        too_many = failed > share * run.care.canary
        return f"of the canary of {run.care.canary}, {failed} failed again: {past}" if too_many else None
    if run.judged_failed > share * max(run.judged, min(LEAST_JUDGED, run.chosen)):
        return f"of {run.judged} that have ended, {run.judged_failed} failed again: {past}"
    failed_lately = run.latest.count(FAILED_ONE)
    if len(run.latest) == LATEST and failed_lately > share * LATEST:
        return f"of the latest {LATEST} that have ended, {failed_lately} failed again: {past}"
    return None


def _unended(run: Run) -> str:
    return (
        f"of the canary of {run.care.canary}, {run.under_way} have not ended within "
        f"{in_words(run.care.patience)}: look at their destination"
    )


def _in(run: Run, state: RunState, now: datetime, by: str) -> Run:
    return replace(run, state=state, changed_at=now, changed_by=by)
