"""What is decided of a replay run: who goes first, how fast, and when it stops."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import Rate
from worker.replays.deciding import (
    LATEST,
    LEAST_JUDGED,
    LEAST_UNDER_WAY,
    MOST_UNDER_WAY,
    canary_of,
    continued,
    moved_on,
    room,
    stopped,
    with_ends,
    with_turns,
)
from worker.replays.differing import CUT, MOST_CHARACTERS, MOST_LINES, difference
from worker.replays.run import AT_WORK, Care, Outcome, Run, RunState
from worker.store.editing import identities_of_edits

NOW = datetime(2026, 11, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ENDS = st.sampled_from([Outcome.DELIVERED, Outcome.DEAD, Outcome.SPLIT, Outcome.SUPERSEDED, Outcome.GONE])


def run(chosen: int = 100, care: Care | None = None, **others: object) -> Run:
    care = care or Care()
    usual = Run(
        id=1,
        begun_at=NOW,
        begun_by="ann",
        why="mended",
        wanted={},
        care=care,
        state=RunState.CANARY if care.canary else RunState.RUNNING,
        changed_at=NOW,
        changed_by="ann",
        total=chosen,
        chosen=chosen,
    )
    return replace(usual, **others)  # type: ignore[arg-type]


def after(was: Run, *ends: Outcome, sent: int = 0) -> Run:
    """Return a run after so many were sent, and these have ended."""
    return moved_on(with_ends(with_turns(was, sent, 0), ends), NOW, "the service")


def test_a_run_that_goes_on_with_too_many_under_way_waits_for_them() -> None:
    going = after(run(2000, Care(canary=MOST_UNDER_WAY + 9)), sent=MOST_UNDER_WAY + 9)
    going = continued(stopped(going, NOW, "ann", "looking", RunState.RUNNING), NOW, "ann")
    assert room(going, NOW)[1] == 0
    assert room(after(going, *[Outcome.DELIVERED] * 10), NOW)[1] == 1


@given(st.integers(0, 400), st.integers(0, 50))
def test_a_canary_is_one_of_each_of_as_many_equal_stretches(number: int, canary: int) -> None:
    messages = list(range(number))
    first = canary_of(messages, canary)
    assert len(first) == min(canary, number)
    assert first == sorted(set(first))
    for n, place in enumerate(first):
        begin, end = n * number / len(first), (n + 1) * number / len(first)
        assert begin - 1 < place < end


@given(
    st.integers(1, 300),
    st.integers(0, 20),
    st.floats(0, 1),
    st.none() | st.integers(1, 500),
    st.lists(st.tuples(ENDS, st.integers(0, 3)), max_size=700),
)
def test_a_run_sends_each_once_and_never_more_than_may_be_under_way(
    chosen: int, canary: int, share: float, rate: int | None, steps: list[tuple[Outcome, int]]
) -> None:
    pace = None if rate is None else Rate(requests=rate, per=timedelta(minutes=1))
    care = Care(min(canary, chosen), rate=pace, stop_share=share)
    now, going = NOW, run(chosen, care)
    for end, seconds in steps:
        now += seconds * SECOND
        going, number = room(moved_on(going, now, "the service"), now)
        assert 0 <= number <= going.to_come
        assert going.under_way + number <= max(MOST_UNDER_WAY, care.canary)
        going = with_turns(going, number, 0)
        if going.under_way:
            going = with_ends(going, [end])
    assert going.sent == going.next_place <= chosen
    assert going.ended <= going.sent
    if rate is not None and going.state is RunState.RUNNING:
        begun = 1 + (now - NOW).total_seconds() * rate / 60
        assert going.sent <= care.canary + begun + 1e-6


def test_nothing_follows_a_canary_before_it_has_ended() -> None:
    going = after(run(care=Care(canary=10)), sent=10)
    assert (going.state, room(going, NOW)[1]) == (RunState.WAITING, 0)
    assert after(going, *[Outcome.DELIVERED] * 9).state is RunState.WAITING
    assert after(going, *[Outcome.DELIVERED] * 10).state is RunState.RUNNING


def test_a_canary_of_which_as_many_fail_as_may_lets_the_rest_follow() -> None:
    going = after(run(care=Care(canary=10, stop_share=0.2)), sent=10)
    ends = [Outcome.DEAD, Outcome.SPLIT, *[Outcome.DELIVERED] * 8]
    assert after(going, *ends).state is RunState.RUNNING


def test_a_canary_stops_the_run_as_soon_as_too_many_of_it_have_failed() -> None:
    going = after(run(care=Care(canary=10, stop_share=0.2)), Outcome.DEAD, Outcome.DEAD, sent=10)
    assert going.state is RunState.WAITING
    going = after(going, Outcome.SPLIT)
    assert (going.state, going.to_come) == (RunState.STOPPED, 90)
    assert going.said == "of the canary of 10, 3 failed again: past the 20 % at which it stops"


def test_a_canary_that_does_not_end_in_time_stops_the_run() -> None:
    care = Care(canary=2, patience=timedelta(minutes=5))
    going = after(run(care=care), Outcome.DELIVERED, sent=2)
    assert moved_on(going, NOW + timedelta(minutes=5) - SECOND, "").state is RunState.WAITING
    late = moved_on(going, NOW + timedelta(minutes=5), "the service")
    assert (late.state, late.goes_on_as) == (RunState.STOPPED, RunState.RUNNING)
    assert late.said == "of the canary of 2, 1 have not ended within 5 min: look at their destination"


@pytest.mark.parametrize("ends", [Outcome.SUPERSEDED, Outcome.CANCELLED, Outcome.GONE])
def test_what_ends_otherwise_is_no_failure(ends: Outcome) -> None:
    going = after(run(care=Care(stop_share=0.0)), *[ends] * 50, sent=50)
    assert (going.state, going.others, going.failed) == (RunState.RUNNING, 50, 0)


def test_without_a_canary_the_first_failures_do_not_stop_a_run_and_many_do() -> None:
    going = run(care=Care(stop_share=0.2))
    may_fail = int(0.2 * LEAST_JUDGED)
    going = after(going, *[Outcome.DEAD] * may_fail, sent=50)
    assert going.state is RunState.RUNNING
    assert after(going, Outcome.DEAD).state is RunState.STOPPED


def test_the_latest_that_fail_stop_a_run_that_went_well_for_long() -> None:
    going = after(run(10_000, Care(stop_share=0.2)), *[Outcome.DELIVERED] * 1000, sent=1200)
    may_fail = int(0.2 * LATEST)
    going = after(going, *[Outcome.DEAD] * may_fail)
    assert going.state is RunState.RUNNING
    going = after(going, Outcome.DEAD)
    assert going.state is RunState.STOPPED
    assert going.said == "of the latest 50 that have ended, 11 failed again: past the 20 % at which it stops"


@given(st.lists(ENDS, max_size=200), st.floats(0, 1))
def test_more_failures_never_let_a_run_go_on_that_fewer_stop(ends: list[Outcome], share: float) -> None:
    going = run(1000, Care(stop_share=share))
    worse = [Outcome.DEAD if each is Outcome.DELIVERED else each for each in ends]
    if after(going, *ends, sent=1000 - 1).state is RunState.STOPPED:
        assert after(going, *worse, sent=1000 - 1).state is RunState.STOPPED


def test_a_continued_run_is_judged_by_what_ends_from_now_on() -> None:
    going = after(run(care=Care(canary=10, stop_share=0.2)), *[Outcome.DEAD] * 10, sent=10)
    assert going.state is RunState.STOPPED
    going = moved_on(continued(going, NOW, "bob"), NOW, "bob")
    assert (going.state, going.said, going.changed_by) == (RunState.RUNNING, None, "bob")
    assert after(going, *[Outcome.DELIVERED] * 30, sent=30).state is RunState.RUNNING
    assert after(going, *[Outcome.DEAD] * 5, sent=30).state is RunState.STOPPED


def test_a_canary_that_a_person_stopped_goes_on_as_one() -> None:
    going = after(run(care=Care(canary=10)), sent=10)
    later = NOW + timedelta(days=1)
    going = continued(stopped(going, NOW, "ann", "lunch", going.state), later, "ann")
    assert moved_on(going, later, "ann").state is RunState.WAITING


def test_a_canary_that_is_continued_is_judged_by_what_ends_from_now_on() -> None:
    going = after(run(care=Care(canary=10, stop_share=0.2)), sent=10)
    lunch = with_ends(stopped(going, NOW, "ann", "lunch", going.state), [Outcome.DEAD] * 3)
    going = moved_on(continued(lunch, NOW, "ann"), NOW, "ann")
    assert (going.state, going.failed) == (RunState.WAITING, 3)
    assert after(going, *[Outcome.DELIVERED] * 7).state is RunState.RUNNING
    assert after(going, *[Outcome.DEAD] * 3).state is RunState.STOPPED


def test_a_run_ends_when_the_last_of_its_replays_has() -> None:
    going = after(run(2), Outcome.DELIVERED, sent=2)
    assert going.state is RunState.ENDING
    assert after(going, Outcome.DEAD).state is RunState.FINISHED


def test_a_rate_is_kept_and_made_up_for_nothing() -> None:
    going = run(1000, Care(rate=Rate(requests=60, per=timedelta(minutes=1))))
    going, first = room(going, NOW)
    going = with_turns(going, first, 0)
    assert (first, room(going, NOW + SECOND / 2)[1], room(going, NOW + SECOND)[1]) == (1, 0, 1)
    after_a_crash = NOW + timedelta(hours=1)
    assert room(going, after_a_crash)[1] == 1


def test_what_was_left_out_costs_nothing_of_the_rate() -> None:
    going, number = room(run(10, Care(rate=Rate(requests=1, per=timedelta(hours=1)))), NOW)
    going = with_turns(going, 0, number)
    assert (going.left_out, room(going, NOW)[1]) == (1, 1)


@pytest.mark.parametrize(("requests", "most"), [(6, LEAST_UNDER_WAY), (60, 60), (60_000, MOST_UNDER_WAY)])
def test_with_a_rate_a_minute_of_it_is_under_way_at_most(requests: int, most: int) -> None:
    going = run(5000, Care(rate=Rate(requests=requests, per=timedelta(minutes=1))))
    now = NOW
    for _ in range(700):
        now += timedelta(minutes=1)
        going, number = room(going, now)
        going = with_turns(going, number, 0)
    assert going.under_way == most


@given(st.sampled_from(RunState), st.lists(ENDS, max_size=30))
def test_what_is_stopped_or_over_sends_nothing(state: RunState, ends: list[Outcome]) -> None:
    still = after(run(state=state, sent=30, next_place=30), *ends)
    if state not in AT_WORK:
        assert (still.state, room(still, NOW)[1]) == (state, 0)


# Differences, and identities of what was edited


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_documents_that_differ_have_a_difference(before: bytes, after: bytes) -> None:
    assert bool(difference(before, after)) is (before != after)


def test_a_difference_shows_the_elements_that_changed_though_all_stand_in_one_line() -> None:
    told = difference(b"<a><b>1</b><c>2</c></a>", b"<a><b>1</b><c>3</c></a>")
    assert [line for line in told.splitlines() if line[0] in "+-" and line[:3] not in ("+++", "---")] == [
        "-<c>2</c>",
        "+<c>3</c>",
    ]


def test_a_difference_is_bounded() -> None:
    long = difference(b"a" * 2 * MOST_CHARACTERS, b"b")
    assert len(long) <= MOST_CHARACTERS + len(CUT) + 1
    assert long.endswith(CUT)
    lines = MOST_LINES // 2
    assert difference(b"a\n" * lines, b"b\n" * (lines + 1)).startswith("too long to compare: 10000 lines")


def test_an_edit_has_an_identity_of_its_own_that_tells_its_origin() -> None:
    first = next(identities_of_edits("so-1", is_edited=False))
    assert first == "so-1/edit-1"
    assert next(identities_of_edits(first, is_edited=True)) == "so-1/edit-2"
    assert next(identities_of_edits(first, is_edited=False)) == "so-1/edit-1/edit-1"
    long = next(identities_of_edits("k" * 255, is_edited=False))
    assert len(long) <= 255
    assert next(identities_of_edits(long, is_edited=True)) == long.replace("edit-1", "edit-2")
