"""The breaker opens for failures of the destination, never for a message's own, and probes ever less."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import BreakerPolicy
from worker.breaker import (
    CLOSED,
    RARE_FROM,
    Breaker,
    BreakerState,
    Result,
    after,
    may_probe,
    opened,
    probe_unused,
    probing,
    turned_away,
)

NOW = datetime(2026, 11, 26, tzinfo=UTC)
SECOND = timedelta(seconds=1)
POLICY = BreakerPolicy()


def good(message_id: int = 0) -> Result:
    return Result(message_id, failed=False)


def bad(message_id: int) -> Result:
    return Result(message_id, failed=True)


def through(results: list[Result], policy: BreakerPolicy = POLICY, breaker: Breaker = CLOSED) -> Breaker:
    for result in results:
        breaker = after(breaker, result, NOW, policy)
    return breaker


def test_it_opens_when_five_messages_fail_in_a_row() -> None:
    assert through([bad(n) for n in range(4)]).is_closed
    breaker = through([bad(n) for n in range(5)])
    assert (breaker.state, breaker.probe_at) == (BreakerState.OPEN, NOW + POLICY.first_probe)


def test_a_good_answer_begins_the_count_anew() -> None:
    assert through([*(bad(n) for n in range(4)), good(), *(bad(n) for n in range(4))]).is_closed


def test_one_message_that_fails_again_and_again_never_opens_it() -> None:
    assert through([bad(7)] * 100).is_closed
    assert through([bad(7), bad(7), good()] * 100).is_closed, "nor are its failures a large share"


def test_a_few_messages_that_fail_in_turn_never_open_it() -> None:
    assert through([bad(1), bad(2), bad(3), bad(4)] * 50).is_closed
    assert through([bad(1), bad(2), good(), bad(2), bad(1)] * 50).is_closed


def test_a_message_that_was_delivered_may_fail_anew() -> None:
    delivered = [result for n in range(4) for result in (bad(n), good(n))]
    assert not through([*delivered, *(bad(n) for n in range(5))]).is_closed


def test_failures_that_no_message_can_bring_about_count_each_time() -> None:
    refused = Result(7, failed=True, unmistakable=True)
    assert through([refused] * 4).is_closed
    assert not through([refused] * 5).is_closed


def test_it_opens_for_a_large_share_without_any_run() -> None:
    policy = BreakerPolicy(failures=1000, share=0.5)
    mixed = [result for n in range(100) for result in (bad(2 * n), bad(2 * n + 1), good())]
    assert not through(mixed, policy).is_closed
    rarely = [result for n in range(100) for result in (bad(n), good(), good(), good())]
    assert through(rarely, policy).is_closed


@given(st.lists(st.booleans(), max_size=60), st.integers(2, 8))
def test_it_is_open_exactly_once_so_many_have_failed_in_a_row(failed: list[bool], run: int) -> None:
    policy = BreakerPolicy(failures=run, share=1.0)
    breaker, longest, now = CLOSED, 0, 0
    for number, each in enumerate(failed):
        breaker = after(breaker, Result(number, each), NOW, policy)
        now = now + 1 if each else 0
        longest = max(longest, now)
    assert breaker.is_closed is (longest < run)


def test_a_calm_breaker_is_not_changed_by_a_good_answer() -> None:
    breaker = through([bad(1), *[good()] * 200])
    assert breaker.is_calm
    assert after(breaker, good(2), NOW, POLICY) == breaker


def test_while_it_is_open_only_a_probe_counts() -> None:
    breaker = opened(CLOSED, NOW, POLICY)
    assert through([good(), bad(3)], breaker=breaker) == breaker


def test_an_answered_probe_closes_it() -> None:
    breaker = probing(opened(CLOSED, NOW, POLICY), NOW + 90 * SECOND)
    assert after(breaker, Result(1, failed=False, probe=True), NOW, POLICY) == CLOSED


def test_probes_come_at_intervals_that_double_up_to_the_longest() -> None:
    breaker, moment, waits = opened(CLOSED, NOW, POLICY), NOW, [POLICY.first_probe]
    for _ in range(14):
        assert breaker.probe_at is not None
        moment = breaker.probe_at
        breaker = after(probing(breaker, moment), Result(1, failed=True, probe=True), moment, POLICY)
        assert breaker.probe_at is not None
        waits.append(breaker.probe_at - moment)
    assert waits[:3] == [5 * SECOND, 10 * SECOND, 20 * SECOND]
    assert all(later == min(2 * earlier, POLICY.longest_probe) for earlier, later in pairwise(waits))
    assert waits[-1] == POLICY.longest_probe


def test_a_probe_may_be_made_when_it_is_time_and_again_when_it_was_given_up() -> None:
    breaker = opened(CLOSED, NOW, POLICY)
    assert not may_probe(breaker, NOW + 4 * SECOND)
    assert may_probe(breaker, NOW + 5 * SECOND)
    made = probing(breaker, NOW + 95 * SECOND)
    assert not may_probe(made, NOW + 94 * SECOND)
    assert may_probe(made, NOW + 95 * SECOND), "whoever made it is dead"
    assert may_probe(probe_unused(made, NOW), NOW), "nothing was there to be sent"
    assert not may_probe(CLOSED, NOW)


def test_a_destination_that_turns_everyone_away_is_probed_rarely_from_the_start() -> None:
    breaker = turned_away(CLOSED, NOW, POLICY)
    assert (breaker.probe_at, breaker.probes) == (NOW + POLICY.longest_probe, RARE_FROM)
    again = after(replace(breaker), Result(1, failed=True, probe=True), NOW, POLICY)
    assert again.probe_at == NOW + POLICY.longest_probe


@pytest.mark.parametrize("seed", range(3))
def test_in_thousands_of_stories_it_never_opens_for_fewer_failures_than_configured(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(1000):
        policy = BreakerPolicy(failures=chance.randint(2, 10), share=chance.uniform(0.3, 1.0))
        breaker, failures = CLOSED, set()
        for number in range(chance.randint(1, 60)):
            failed = chance.random() < 0.6
            breaker = after(breaker, Result(number // chance.randint(1, 3), failed), NOW, policy)
            failures |= {number} if failed else set()
            if not breaker.is_closed:
                break
        # The share of about twenty answers: a third of it takes a third of twenty, and so on.
        assert breaker.is_closed or len(failures) >= min(policy.failures, 7)
