"""Where a look begins: past what was sent before, and now and then at the very start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from tests.steps import LEASE, SECOND, Clock, put, set_row
from worker.frontier import LONGEST_PAUSE_SECONDS, MARGIN, WHOLE_LOOK_SECONDS, Frontier
from worker.looking import Looker
from worker.store.transactions import Store

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def looked(frontier: Frontier, at: float, met: datetime, seconds: float = 0.0) -> datetime | None:
    """Make a look that meets `met` first; return from when on it looked."""
    frontier.begin(at)
    since = frontier.since("main")
    frontier.met("main", met)
    frontier.end(at + seconds, seconds)
    return since


def test_the_first_look_begins_at_the_very_start() -> None:
    assert looked(Frontier(), 0, NOON) is None


def test_the_next_look_begins_a_little_before_what_the_last_one_met() -> None:
    frontier = Frontier()
    looked(frontier, 0, NOON)
    assert looked(frontier, 0.1, NOON + SECOND) == NOON - MARGIN
    assert looked(frontier, 0.2, NOON + SECOND) == NOON + SECOND - MARGIN


def test_looks_do_not_creep_back_by_their_own_margin() -> None:
    frontier = Frontier()
    looked(frontier, 0, NOON)
    for n in range(1, 5):
        assert looked(frontier, n / 10, NOON - MARGIN) == NOON - MARGIN


def test_once_a_second_a_look_begins_at_the_very_start() -> None:
    frontier = Frontier()
    looked(frontier, 0, NOON)
    assert looked(frontier, WHOLE_LOOK_SECONDS - 0.01, NOON) is not None
    assert looked(frontier, WHOLE_LOOK_SECONDS, NOON) is None


def test_what_a_whole_look_meets_below_the_frontier_takes_it_back() -> None:
    frontier = Frontier()
    looked(frontier, 0, NOON)
    looked(frontier, WHOLE_LOOK_SECONDS, NOON - timedelta(minutes=5))
    assert looked(frontier, WHOLE_LOOK_SECONDS + 0.1, NOON) == NOON - timedelta(minutes=5) - MARGIN


def test_whole_looks_that_are_slow_take_a_tenth_of_the_time() -> None:
    frontier = Frontier()
    looked(frontier, 0, NOON, seconds=0.5)
    assert looked(frontier, 5.4, NOON) is not None
    assert looked(frontier, 5.5, NOON) is None


def test_a_look_that_hung_does_not_put_off_the_next_whole_one_for_long() -> None:
    frontier = Frontier()
    looked(frontier, 0, NOON, seconds=3600)
    assert looked(frontier, 3600 + LONGEST_PAUSE_SECONDS, NOON) is None


def test_each_destination_has_its_own_frontier() -> None:
    frontier = Frontier()
    looked(frontier, 0, NOON)
    frontier.begin(0.1)
    assert frontier.since("elsewhere") is None


def test_a_message_whose_shop_committed_late_is_claimed_within_a_second(engine: Engine) -> None:
    clock, seconds = Clock(), 0.0
    looker = Looker(Store(engine, clock), LEASE, monotonic=lambda: seconds)
    assert not looker.look({"main": 10}).claims
    late = put(engine)
    set_row(engine, late, due_at=clock.now - timedelta(minutes=1))
    seconds = WHOLE_LOOK_SECONDS - 0.1
    assert not looker.look({"main": 10}).claims, "it lies before the frontier"
    seconds = WHOLE_LOOK_SECONDS
    assert [each.id for each in looker.look({"main": 10}).claims] == [late]
