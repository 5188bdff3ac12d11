"""Pauses by the calendar: nothing is sent then, no try is spent, and all goes on at the end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine

from config import Pause, paused_operations, paused_until
from config.pauses import leave_no_time
from orderflow_outbox.tables import message
from tests.steps import LEASE, SECOND, Clock, put, row, rows
from worker.looking import Looker
from worker.store.transactions import Store


def pause(begin: str, end: str, zone: str = "UTC", **others: Any) -> Pause:
    return Pause.model_validate({"begin": begin, "end": end, "zone": zone, **others})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NIGHT = pause("02:00", "03:00")
OVER_MIDNIGHT = pause("22:00", "04:00", days=["sat"])
LONDON = pause("02:00", "03:00", "Europe/London")


@pytest.mark.parametrize(
    ("each", "moment", "end"),
    [
        (NIGHT, "2026-11-26 01:59:59", None),
        (NIGHT, "2026-11-26 02:00", "2026-11-26 03:00"),
        (NIGHT, "2026-11-26 02:59:59", "2026-11-26 03:00"),
        (NIGHT, "2026-11-26 03:00", None),
        (OVER_MIDNIGHT, "2026-11-28 21:59", None),
        (OVER_MIDNIGHT, "2026-11-28 22:00", "2026-11-29 04:00"),
        (OVER_MIDNIGHT, "2026-11-29 03:59", "2026-11-29 04:00"),
        (OVER_MIDNIGHT, "2026-11-29 22:00", None),
        (OVER_MIDNIGHT, "2026-11-28 03:00", None),
        (LONDON, "2026-11-26 02:30", "2026-11-26 03:00"),
        (LONDON, "2026-07-01 01:30", "2026-07-01 02:00"),
        (LONDON, "2026-07-01 02:30", None),
        (pause("02:00", "03:00", "Asia/Tokyo"), "2026-11-25 17:30", "2026-11-25 18:00"),
    ],
)
def test_a_pause_is_from_its_begin_to_its_end_where_it_is_told(
    each: Pause, moment: str, end: str | None
) -> None:
    assert each.end_at(at(moment)) == (None if end is None else at(end))


@pytest.mark.parametrize(
    ("begin", "end", "zone", "from_moment", "to_moment"),
    [
        ("00:30", "02:30", "Europe/London", "00:30", "01:30"),
        ("00:30", "01:30", "Europe/London", "00:30", "01:00"),
        ("01:30", "02:15", "Europe/London", "01:00", "01:15"),
        ("01:30", "03:00", "Europe/London", "01:00", "02:00"),
        ("01:30", "02:30", "Europe/Berlin", "00:30", "01:00"),
    ],
)
def test_a_time_that_is_skipped_when_the_clocks_go_forward_is_the_moment_of_the_change(
    begin: str, end: str, zone: str, from_moment: str, to_moment: str
) -> None:
    forward = pause(begin, end, zone)
    begins, ends = (at(f"2027-03-28 {moment}") for moment in (from_moment, to_moment))
    assert [forward.end_at(moment) for moment in (begins, ends - SECOND)] == [ends, ends]
    assert [forward.end_at(moment) for moment in (begins - SECOND, ends)] == [None, None]


def test_a_pause_in_an_hour_that_comes_twice_ends_after_the_second() -> None:
    back = pause("01:10", "01:30", "Europe/London")
    assert back.end_at(at("2027-10-31 00:09")) is None
    assert back.end_at(at("2027-10-31 00:10")) == at("2027-10-31 01:30"), "ten past one, in summer time"
    assert back.end_at(at("2027-10-31 01:29")) == at("2027-10-31 01:30"), "half past one, in winter time"
    assert back.end_at(at("2027-10-31 01:30")) is None


def test_pauses_that_follow_without_a_gap_are_one() -> None:
    both = [pause("02:00", "03:00"), pause("03:00", "05:00"), pause("04:00", "06:00")]
    assert paused_until(both, at("2026-11-26 02:30")) == at("2026-11-26 06:00")
    assert paused_until(both, at("2026-11-26 06:00")) is None
    assert paused_until([], at("2026-11-26 02:30")) is None


def test_pauses_that_never_end_are_told_as_such_and_still_told_an_end() -> None:
    always = [pause("00:00", "12:00"), pause("12:00", "00:00")]
    assert leave_no_time(always)
    assert not leave_no_time(always[:1])
    assert not leave_no_time([pause("00:00", "12:00"), pause("12:00", "00:00", operations=["order-import"])])
    assert paused_until(always, at("2026-11-26 02:30")) > at("2026-11-26 12:00")  # type: ignore[operator]


def test_a_pause_of_an_operation_is_no_pause_of_the_others() -> None:
    orders = pause("02:00", "03:00", operations=["order-import"])
    now = at("2026-11-26 02:30")
    assert paused_operations([orders], now) == {"order-import": at("2026-11-26 03:00")}
    assert paused_operations([orders], at("2026-11-26 03:00")) == {}


@pytest.mark.parametrize(
    ("values", "fix"),
    [
        ({"begin": "2 am", "end": "03:00", "zone": "UTC"}, "such as"),
        ({"begin": "02:00", "end": "25:00", "zone": "UTC"}, "such as"),
        ({"begin": "02:00", "end": "03:00", "zone": "London"}, "Europe/London"),
        ({"begin": "02:00", "end": "02:00", "zone": "UTC"}, "hold it"),
        ({"begin": "02:00", "end": "03:00", "zone": "UTC", "days": ["monday"]}, "mon"),
        ({"begin": "02:00", "end": "03:00", "zone": "UTC", "days": []}, "one at least"),
        ({"begin": "02:00", "end": "03:00", "zone": "UTC", "days": "sun"}, "one at least"),
        ({"begin": "02:00", "end": "03:00", "zone": "UTC", "operations": []}, "one at least"),
        ({"begin": "02:00", "end": "03:00"}, "zone"),
    ],
)
def test_a_wrong_pause_is_refused_with_what_is_right(values: dict[str, Any], fix: str) -> None:
    with pytest.raises(ValidationError, match=fix):
        Pause.model_validate(values)


def look(store: Store, *pauses: Pause) -> tuple[list[int], frozenset[str]]:
    found = Looker(store, LEASE, pauses={"main": list(pauses)}).look({"main": 10})
    return [claim.id for claim in found.claims], found.shut


def around(clock: Clock, **others: Any) -> Pause:
    """Return a pause that the clock is in the middle of."""
    hour = timedelta(hours=1)
    begin, end = (f"{moment:%H:%M}" for moment in (clock.now - hour, clock.now + hour))
    return pause(begin, end, **others)


def test_nothing_is_claimed_in_a_pause_and_all_of_it_after(engine: Engine) -> None:
    clock = Clock()
    store, message_id = Store(engine, clock), put(engine)
    paused = around(clock)
    assert look(store, paused) == ([], {"main"})
    clock.now = paused.end_at(clock.now) or clock.now
    assert look(store, paused) == ([message_id], frozenset())
    assert row(engine, message_id)["tries"] == 0


def test_messages_of_a_paused_operation_are_due_at_its_end_and_keep_nobody_waiting(engine: Engine) -> None:
    clock = Clock()
    store = Store(engine, clock)
    orders = [put(engine) for _ in range(30)]
    other = put(engine, operation="order-cancel", payload=None, query={"externalReference": "SO-1"})
    paused = around(clock, operations=["order-import"])
    assert look(store, paused) == ([other], frozenset())
    end = paused.end_at(clock.now)
    assert [(each["due_at"], each["attempts"]) for each in rows(engine, message)[:30]] == [(end, 0)] * 30
    clock.now = end or clock.now
    found = Looker(store, LEASE, pauses={"main": [paused]}).look({"main": 100})
    assert [claim.id for claim in found.claims] == orders


def test_what_waits_for_an_earlier_one_of_its_key_is_parked_and_not_put_off(engine: Engine) -> None:
    clock = Clock()
    store = Store(engine, clock)
    elder, later = (put(engine, key="order:1") for _ in range(2))
    assert look(store, around(clock, operations=["order-import"]))[0] == []
    assert row(engine, elder)["due_at"] > clock.now
    assert row(engine, later)["due_at"] is None


def test_an_order_that_is_put_off_keeps_its_place_before_what_waits_for_it(engine: Engine) -> None:
    clock = Clock()
    store = Store(engine, clock)
    elder = put(engine, key="order:1")
    later = put(
        engine, key="order:1", operation="order-cancel", payload=None, query={"externalReference": "SO-1"}
    )
    assert look(store, around(clock, operations=["order-import"]))[0] == []
    clock.forward(10 * SECOND)
    assert look(store)[0] == []
    assert row(engine, elder)["due_at"] > clock.now
    assert row(engine, later)["due_at"] is None, "it is parked behind the one that is put off"
