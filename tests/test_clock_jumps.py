"""The database's clock is set to another time: nothing is lost, and all ends once the clock is right again.

A jump forward may repeat what was being sent, since its leases seem to have run out. A jump back delays what
was due or leased by the time before.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from config import Rate
from tests.databases import on_sqlite_first
from tests.proof.checker import Evidence, repeats
from tests.proof.clock import SetClock
from tests.proof.producer import identity_of
from tests.proof.receiver import AFTER_LAST_BYTE
from tests.proof.stage import Stage, stage
from tests.rig import Place, eventually
from worker.rate import Bucket, filled

RIGHT, FAR = timedelta(), timedelta(hours=3)
ORDERS, KEYS, NEW = 12, 6, 100
STALL = f"{AFTER_LAST_BYTE}:7"
"""One request is under way when the clock is set."""
LONG = 60
"""Seconds of a lease that no test waits for."""


def stalled(made: Stage) -> bool:
    return any(each["event"] == "stalled" for each in made.received())


def held(made: Stage) -> dict[int, int]:
    """Return the tokens of the leases there are, by message."""
    return {row.id: row.lease_token for row in made.rig.rows() if row.state == "sending"}


def assert_repeats_what_was_taken_back(seen: Evidence) -> None:
    assert 1 <= repeats(seen) <= sum(row.rescues for row in seen.messages)


@on_sqlite_first
def test_a_clock_set_forward_repeats_what_was_being_sent_and_nothing_else(place: Place) -> None:
    clock = SetClock(place)
    with stage(place, STALL, clock, lease=LONG, attempt_deadline="20s") as made:
        made.produce(ORDERS, KEYS)
        with made.engine():
            eventually(lambda: stalled(made))
            clock.set_ahead(FAR)
            seen = made.assert_all_kept()  # while the holder goes on waiting for its answer
        assert_repeats_what_was_taken_back(seen)


@on_sqlite_first
def test_a_clock_set_back_keeps_no_result_from_being_written(place: Place) -> None:
    clock = SetClock(place)
    with stage(place, STALL, clock) as made:
        made.produce(ORDERS, KEYS)
        with made.engine():
            eventually(lambda: stalled(made))
            clock.set_ahead(-FAR)
            eventually(lambda: not held(made), what="the holder writes what came of it")
        assert [row.rescues for row in made.rig.rows()] == [0] * ORDERS
        clock.set_ahead(RIGHT)
        assert repeats(made.assert_all_kept()) <= 1


@on_sqlite_first
def test_a_clock_set_back_delays_a_killed_engines_messages_and_no_others(place: Place) -> None:
    clock = SetClock(place)
    with stage(place, STALL, clock) as made:
        made.produce(ORDERS, KEYS)
        with made.engine() as doomed:
            eventually(lambda: stalled(made))
            clock.set_ahead(-FAR)
            doomed.kill()
            doomed.wait()
        leases = held(made)
        assert leases
        with made.engine():
            made.produce(KEYS, keys=1000, first=NEW)
            new = {identity_of(number) for number in range(NEW, NEW + KEYS)}
            eventually(lambda: new <= {each.get("identity") for each in made.received()})
            assert leases.items() <= held(made).items(), "by the clock they have hours left"
        clock.set_ahead(RIGHT)
        assert_repeats_what_was_taken_back(made.assert_all_kept())


def test_a_rate_goes_on_after_a_clock_was_set_back() -> None:
    rate, then = Rate(requests=60, per=timedelta(minutes=1), burst=6), datetime.now(UTC)
    empty = Bucket(0.0, then)
    assert filled(empty, rate, then - timedelta(seconds=1)) == empty, "a transaction that waited for another"
    began = filled(empty, rate, then - FAR)
    assert filled(began, rate, then - FAR + timedelta(seconds=5)).tokens == 5
