"""When a failed message is tried again, and what becomes of it: a function of values and `now`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import RetryPolicy
from config.destinations import DEFAULT_RETRY_AFTER
from orderflow_outbox import PREDEFINED, State, WhenDead
from worker.deliveries import Claim, Outcome, Settlement
from worker.retry import end_of_life, next_retry_at
from worker.settling import HOLD_WAIT, expiry, settle, when_dead
from worker.verdicts import Delivered, Hold, Refused, RetryLater, Verdict, Why

NOW = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
WHY = Why("timeout", "no answer within 30 s", "transport")
MIDDLE = 0.5

chances = st.floats(0, 1)
spans = st.timedeltas(timedelta(), timedelta(days=2))


def policy(**given: Any) -> RetryPolicy:
    schedule = {} if "exponential" in given else {"retry_after": DEFAULT_RETRY_AFTER}
    return RetryPolicy.model_validate({**schedule, **given})


def waits(policy: RetryPolicy) -> list[timedelta]:
    """Return the waits one meets by failing until there is no further try."""
    found = []
    for tries in range(1, 1000):
        due_at = next_retry_at(NOW, tries, policy, chance=MIDDLE)
        if due_at is None:
            return found
        found.append(due_at - NOW)
    raise AssertionError("the tries never end")


# The schedule


@given(st.lists(st.integers(1, 36000), max_size=20))
def test_n_waits_make_n_plus_one_tries(seconds: list[int]) -> None:
    schedule = policy(retry_after=[f"{each}s" for each in seconds])
    assert waits(schedule) == [timedelta(seconds=each) for each in seconds]
    assert schedule.tries == len(seconds) + 1


def test_after_the_last_try_there_is_no_further_one() -> None:
    schedule = policy(retry_after=["5s"])
    assert next_retry_at(NOW, 1, schedule) == NOW + timedelta(seconds=5)
    assert next_retry_at(NOW, 2, schedule) is None


def test_no_waits_make_one_try() -> None:
    assert next_retry_at(NOW, 1, policy(retry_after=[])) is None


def test_an_exponential_schedule_grows_by_its_factor_up_to_its_longest_wait() -> None:
    schedule = policy(exponential={"first": "5s", "factor": 4.0, "max": "2m", "tries": 6})
    assert [wait.total_seconds() for wait in waits(schedule)] == [5, 20, 80, 120, 120]
    assert schedule.tries == 6


def test_an_exponential_schedule_never_starts_above_its_longest_wait() -> None:
    schedule = policy(exponential={"first": "1h", "factor": 2.0, "max": "1m", "tries": 3})
    assert [wait.total_seconds() for wait in waits(schedule)] == [60, 60]


@given(
    first=st.integers(1, 3600),
    factor=st.floats(1, 100),
    longest=st.integers(1, 36000),
    tries=st.integers(1, 100),
)
def test_exponential_waits_never_shrink_and_stay_bounded(
    first: int, factor: float, longest: int, tries: int
) -> None:
    found = policy(
        exponential={"first": f"{first}s", "factor": factor, "max": f"{longest}s", "tries": tries}
    ).waits
    assert len(found) == tries - 1
    assert found == sorted(found)
    assert all(timedelta() < wait <= timedelta(seconds=longest) for wait in found)


# Jitter


@given(chance=chances, jitter=st.floats(0, 0.5), tries=st.integers(1, 8))
def test_a_wait_stays_within_its_jitter(chance: float, jitter: float, tries: int) -> None:
    schedule = policy(jitter=jitter)
    due_at = next_retry_at(NOW, tries, schedule, chance=chance)
    assert due_at is not None
    middle, rounding = schedule.waits[tries - 1], timedelta(microseconds=1)
    assert middle * (1 - jitter) - rounding <= due_at - NOW <= middle * (1 + jitter) + rounding


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 54), (0.5, 60), (1.0, 66)])
def test_chance_places_a_wait_from_the_low_to_the_high_end_of_its_jitter(chance: float, seconds: int) -> None:
    assert next_retry_at(NOW, 1, policy(retry_after=["1m"]), chance=chance) == NOW + timedelta(
        seconds=seconds
    )


@given(chances, chances)
def test_a_higher_chance_never_means_an_earlier_try(one: float, other: float) -> None:
    low, high = (next_retry_at(NOW, 3, policy(), chance=chance) for chance in sorted((one, other)))
    assert low is not None
    assert high is not None
    assert low <= high


# Retry-After


@given(tries=st.integers(1, 8), asked=spans, chance=chances)
def test_a_retry_after_never_shortens_a_wait_and_lengthens_it_up_to_its_limit(
    tries: int, asked: timedelta, chance: float
) -> None:
    schedule = policy()
    own = next_retry_at(NOW, tries, schedule, chance=chance)
    due_at = next_retry_at(NOW, tries, schedule, asked, chance)
    assert own is not None
    assert due_at == max(own, NOW + min(asked, schedule.retry_after_header_max))


@given(spans, spans)
def test_a_longer_retry_after_never_means_an_earlier_try(one: timedelta, other: timedelta) -> None:
    sooner, later = (next_retry_at(NOW, 2, policy(), asked, MIDDLE) for asked in sorted((one, other)))
    assert sooner is not None
    assert later is not None
    assert sooner <= later


@pytest.mark.parametrize(
    ("asked", "granted"),
    [("1s", "5s"), ("20s", "20s"), ("1h", "1h"), ("2h", "1h"), ("3000d", "1h")],
)
def test_a_retry_after_is_granted_up_to_the_limit(asked: str, granted: str) -> None:
    spans = policy(retry_after=[asked, granted]).waits
    assert next_retry_at(NOW, 1, policy(), spans[0], MIDDLE) == NOW + spans[1]


def test_a_retry_after_buys_no_further_try() -> None:
    assert next_retry_at(NOW, 9, policy(), timedelta(hours=1)) is None


# The end of a message's life


def test_a_message_ends_at_its_largest_age_or_earlier_where_it_says_so() -> None:
    week = NOW + timedelta(days=7)
    assert end_of_life(NOW, None, policy()) == week
    assert end_of_life(NOW, NOW + timedelta(hours=1), policy()) == NOW + timedelta(hours=1)
    assert end_of_life(NOW, NOW + timedelta(days=30), policy()) == week


def test_a_message_may_be_sent_until_its_very_end_and_not_from_then_on() -> None:
    expires_at = NOW + timedelta(hours=1)
    due = claim(expires_at=expires_at)
    assert expiry(due, expires_at - timedelta(microseconds=1), policy()) is None
    verdict = expiry(due, expires_at, policy())
    assert verdict is not None
    assert verdict.why.reason == "expired"
    assert "2026-11-01 10:30:00 UTC" in verdict.why.text


# What becomes of a message


def claim(**given: Any) -> Claim:
    usual = Claim(
        id=1,
        destination="main",
        operation="order-import",
        channel="web",
        organisation=None,
        key="order:SO-1",
        version=None,
        idempotency_key="k",
        token=1,
        attempt=1,
        tries=0,
        in_doubt=False,
        edited=False,
        created_at=NOW,
        expires_at=None,
        replay_of=None,
        claimed_at=NOW,
        payload=b"<imports/>",
        query={},
        headers={},
    )
    return replace(usual, **given)


def settled(
    verdict: Verdict | None,
    in_doubt: bool = False,
    followers: WhenDead = WhenDead.WAIT,
    schedule: RetryPolicy | None = None,
    **given: Any,
) -> Settlement:
    outcome = Outcome(claim(**given), verdict, in_doubt=in_doubt)
    return settle(outcome, NOW, schedule or policy(), followers, lambda: MIDDLE)


RETRY = RetryLater(WHY, systemic=True)


@pytest.mark.parametrize(
    ("verdict", "state", "tries", "wait"),
    [
        (Delivered(WHY), State.DELIVERED, 2, None),
        (Refused(WHY), State.DEAD, 2, None),
        (RETRY, State.PENDING, 3, timedelta(minutes=5)),
        (RetryLater(WHY, systemic=False), State.PENDING, 3, timedelta(minutes=5)),
        (RetryLater(WHY, True, timedelta(minutes=20)), State.PENDING, 3, timedelta(minutes=20)),
        (Hold(WHY), State.PENDING, 2, HOLD_WAIT),
        (None, State.PENDING, 2, timedelta()),
    ],
)
def test_a_verdict_decides_state_tries_and_wait(
    verdict: Verdict | None, state: State, tries: int, wait: timedelta | None
) -> None:
    settlement = settled(verdict, tries=2)
    assert (settlement.state, settlement.tries) == (state, tries)
    assert settlement.due_at == (None if wait is None else NOW + wait)


@pytest.mark.parametrize("verdict", [Hold(WHY), None])
def test_being_turned_away_or_given_back_never_kills_however_many_tries_are_spent(
    verdict: Verdict | None,
) -> None:
    assert settled(verdict, tries=100).state is State.PENDING


def test_the_last_try_ends_in_death_that_tells_the_number_of_tries_and_the_last_error() -> None:
    settlement = settled(RETRY, tries=8)
    assert (settlement.state, settlement.tries, settlement.due_at) == (State.DEAD, 9, None)
    assert settlement.death == Why("timeout", "after 9 tries: no answer within 30 s", "transport")


def test_the_try_before_the_last_does_not() -> None:
    assert settled(RETRY, tries=7).state is State.PENDING


def test_a_message_that_would_be_due_past_its_end_dies_now_as_expired() -> None:
    dying = settled(RETRY, expires_at=NOW + timedelta(seconds=5))
    assert dying.state is State.DEAD
    assert dying.death is not None
    assert dying.death.reason == "expired"
    assert "no answer within 30 s" in dying.death.text
    assert settled(RETRY, expires_at=NOW + timedelta(seconds=6)).state is State.PENDING


def test_a_refusal_is_the_reason_of_the_death() -> None:
    assert settled(Refused(WHY)).death == WHY


@pytest.mark.parametrize("verdict", [Delivered(WHY), RETRY, Hold(WHY), None])
def test_only_the_dead_have_a_death(verdict: Verdict | None) -> None:
    assert settled(verdict).death is None


@pytest.mark.parametrize("verdict", [Refused(WHY), RETRY, Hold(WHY), None])
def test_doubt_stays_until_the_message_is_delivered(verdict: Verdict | None) -> None:
    assert settled(verdict, in_doubt=True).in_doubt
    assert settled(verdict, in_doubt=True, tries=8).in_doubt
    assert not settled(verdict, in_doubt=False).in_doubt


def test_delivery_settles_the_doubt() -> None:
    assert not settled(Delivered(WHY), in_doubt=True).in_doubt


@pytest.mark.parametrize(
    ("verdict", "tries", "followers", "blocks"),
    [
        (Delivered(WHY), 0, WhenDead.WAIT, False),
        (Refused(WHY), 0, WhenDead.WAIT, True),
        (Refused(WHY), 0, WhenDead.PASS, False),
        (RETRY, 0, WhenDead.PASS, True),
        (RETRY, 8, WhenDead.WAIT, True),
        (RETRY, 8, WhenDead.PASS, False),
        (Hold(WHY), 0, WhenDead.PASS, True),
        (None, 0, WhenDead.PASS, True),
    ],
)
def test_a_message_blocks_its_followers_until_it_is_delivered_or_dead_and_passed(
    verdict: Verdict | None, tries: int, followers: WhenDead, blocks: bool
) -> None:
    assert settled(verdict, followers=followers, tries=tries).blocks is blocks


@pytest.mark.parametrize("verdict", [Delivered(WHY), Refused(WHY), RETRY, Hold(WHY), None])
def test_a_message_without_a_key_blocks_nobody(verdict: Verdict | None) -> None:
    assert not settled(verdict, key=None).blocks


def test_followers_wait_for_a_dead_letter_of_any_operation_known_or_not() -> None:
    assert when_dead(PREDEFINED, "order-import") is WhenDead.WAIT
    assert when_dead(PREDEFINED, "of-another-release") is WhenDead.WAIT


def test_waits_past_the_largest_age_are_no_tries() -> None:
    policy = RetryPolicy.model_validate({"retry_after": ["1h", "8d", "1h"], "max_age": "7d"})
    assert (policy.tries, policy.last_try_after) == (2, timedelta(hours=1))
    policy = RetryPolicy.model_validate({"retry_after": ["1h"], "max_age": "30m"})
    assert (policy.tries, policy.last_try_after) == (1, timedelta())
