"""A person limits a destination below its configuration, and engines heed it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine

from config import Destination, Rate
from orderflow_outbox.tables import audit
from tests.steps import DELIVERED, LEASE, SECOND, Clock, destinations, finish, put, rows
from worker.breaker import Breaker, BreakerState
from worker.by_hand import NotPossible
from worker.gate import Ask, Gate
from worker.holding import LASTING
from worker.limiting import limit
from worker.limits import Limits, limited
from worker.status import look_at
from worker.store import gates
from worker.store.shares import Granted, take
from worker.store.transactions import Store

MAIN = destinations()["main"]
SLOW = Rate(requests=6, per="1m")  # type: ignore[arg-type]


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


def asked(store: Store, engine: str = "a", **others: Any) -> Granted:
    with store.writing() as transaction:
        ask = Ask(8, **others)
        return take(transaction, "main", MAIN, engine, ask, lasting=LASTING, lease=LEASE)


def test_all_engines_together_keep_the_window_that_was_set(store: Store, clock: Clock) -> None:
    limit(store, "main", MAIN, Limits(window=3), "anna", "their new server is slow")
    for _ in range(5):
        granted = [asked(store, engine).slots for engine in "abcd"]
        assert sum(granted) <= 3
        clock.forward(SECOND)
    assert sum(granted) == 3
    limit(store, "main", MAIN, Limits(), "anna", "it is quick again")
    for _ in range(5):
        asked(store, answers=[(clock.now, 0.01)] * 40)
        clock.forward(SECOND)
    with store.reading() as transaction:
        window = gates.read(transaction, ["main"])["main"].window
    assert window is not None
    assert window.size > 3, "it grows by good answers again"


def test_a_window_that_was_larger_shrinks_to_the_limit_at_once(store: Store) -> None:
    assert asked(store).slots > 1
    limit(store, "main", MAIN, Limits(window=1), "anna", "gently")
    assert asked(store).slots == 1


def test_a_rate_that_was_set_is_kept(store: Store, clock: Clock) -> None:
    assert asked(store).to_begin is None
    limit(store, "main", MAIN, Limits(rate=SLOW), "anna", "gently")
    begun = 0
    for _ in range(60):
        begun += asked(store).to_begin or 0
        clock.forward(SECOND)
    assert 6 <= begun <= 7
    limit(store, "main", MAIN, Limits(), "anna", "again")
    assert asked(store).to_begin is None


def test_a_limit_outlives_what_else_changes_at_the_gate(store: Store, engine: Engine) -> None:
    limit(store, "main", MAIN, Limits(2, SLOW), "anna", "gently")
    put(engine)
    finish(store, DELIVERED)
    with store.writing() as transaction:
        gates.resume(transaction, "main", "anna")
    with store.reading() as transaction:
        assert gates.read(transaction, ["main"])["main"].limits == Limits(2, SLOW)
        (found,) = look_at(transaction, {"main": MAIN}).destinations
    assert (found.window, found.rate, found.limits) == (2, SLOW, Limits(2, SLOW))


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (Limits(window=MAIN.window + 1), "the window of main is 8"),
        (Limits(rate=SLOW), "the rate of main is 1/min"),
    ],
)
def test_a_limit_above_the_configurations_is_refused(
    store: Store, engine: Engine, limits: Limits, told: str
) -> None:
    slower = MAIN.model_copy(update={"rate": Rate(requests=1, per="1m")})  # type: ignore[arg-type]
    with pytest.raises(NotPossible, match=told):
        limit(store, "main", slower, limits, "anna", "more")
    assert rows(engine, audit) == []


def test_the_configuration_stays_the_highest_when_it_is_lowered_later() -> None:
    lowered = MAIN.model_copy(update={"window": 2, "rate": Rate(requests=1, per="1m")})  # type: ignore[arg-type]
    assert limited(lowered, Limits(5, SLOW)) is lowered


def test_a_probe_goes_out_under_the_smallest_limit(store: Store, clock: Clock) -> None:
    limit(store, "main", MAIN, Limits(window=1), "anna", "gently")
    with store.writing() as transaction:
        before = gates.lock(transaction, "main")
        opened = Breaker(state=BreakerState.OPEN, probe_at=clock.now)
        gates.write(transaction, "main", before, with_breaker(before, opened), None)
    granted = asked(store)
    assert (granted.is_probe, granted.to_begin) == (True, 1)


def with_breaker(of: Gate, breaker: Breaker) -> Gate:
    return replace(of, breaker=breaker)


def test_what_was_set_and_what_before_stands_in_the_audit(store: Store, engine: Engine) -> None:
    limit(store, "main", MAIN, Limits(2, SLOW), "anna", "gently")
    limit(store, "main", MAIN, Limits(window=3), "otto", "less gently")
    first, second = rows(engine, audit)
    assert (first["verb"], first["by"], first["why"]) == ("limit", "anna", "gently")
    assert first["detail"] == {
        "before": {"window": None, "rate": None},
        "after": {"window": 2, "rate": "6/min"},
    }
    assert second["detail"]["before"] == {"window": 2, "rate": "6/min"}


def test_a_destination_without_limits_by_hand_is_left_as_it_is() -> None:
    assert isinstance(MAIN, Destination)
    assert limited(MAIN, Limits()) is MAIN
