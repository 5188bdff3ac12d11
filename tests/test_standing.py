"""How things stand, as the store counts it: ages, slots, and the latest attempts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine

from orderflow_outbox.tables import gate_share
from tests.steps import (
    DELIVERED,
    LATER,
    REFUSED,
    SECOND,
    Clock,
    claim_all,
    finish,
    outcome,
    put,
    recorder,
    row,
    set_row,
    swept,
)
from worker.store import standing
from worker.store.standing import AGES, LATEST, Attempts, Latest, Standing
from worker.store.transactions import Store

MINUTE = timedelta(minutes=1)


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


def stands(store: Store) -> dict[str, Standing]:
    with store.reading() as transaction:
        return standing.standing(transaction)


def latest(store: Store, **bound: int) -> Latest:
    with store.reading() as transaction:
        return standing.latest_attempts(transaction, **bound)


def test_what_waits_is_counted_by_its_age(engine: Engine, store: Store, clock: Clock) -> None:
    moments = [clock.now - age for age in AGES]
    for moment in moments:
        set_row(engine, put(engine), created_at=moment)
        set_row(engine, put(engine), created_at=moment - SECOND)
    found = stands(store)["main"]
    assert found.ages == [1, 2, 2, 2, 2, 2, 2, 1], "an age is counted with the bound it reaches"
    assert found.oldest_at == moments[-1] - SECOND
    assert found.pending == sum(found.ages)


def test_what_is_parked_or_being_sent_has_an_age_and_what_is_finished_has_none(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put(engine)
    finish(store, DELIVERED)
    elder = put(engine, key="order:1")
    put(engine, key="order:1")
    assert [each.id for each in claim_all(store).claims] == [elder]
    put(engine, destination="elsewhere")
    found = stands(store)
    counts = (found["main"].pending, found["main"].parked, found["main"].sending)
    assert (counts, sum(found["main"].ages)) == ((1, 1, 1), 2)
    assert found["main"].oldest_at == row(engine, elder)["created_at"]
    assert sum(found["elsewhere"].ages) == 1


def test_a_message_for_later_has_an_age_and_is_not_due(engine: Engine, store: Store, clock: Clock) -> None:
    put(engine, deliver_after=clock.now + MINUTE)
    found = stands(store)["main"]
    assert (found.pending, found.due, found.oldest_due_at, sum(found.ages)) == (1, 0, None, 1)
    clock.forward(2 * MINUTE)
    found = stands(store)["main"]
    assert (found.due, found.oldest_due_at) == (1, clock.now - MINUTE)


def test_slots_that_lapsed_are_not_in_use(engine: Engine, store: Store, clock: Clock) -> None:
    shares = {("main", "a"): (2, SECOND), ("main", "b"): (3, SECOND), ("main", "dead"): (4, 0 * SECOND)}
    with engine.begin() as connection:
        for (destination, name), (slots, lasting) in shares.items():
            values = {"slots": slots, "wanted": slots, "until": clock.now + lasting}
            connection.execute(gate_share.insert().values(destination=destination, engine=name, **values))
    with store.reading() as transaction:
        assert standing.slots_in_use(transaction) == {"main": 5}


def test_attempts_are_counted_by_what_became_of_them(engine: Engine, store: Store, clock: Clock) -> None:
    for verdict in (DELIVERED, DELIVERED, REFUSED, LATER):
        put(engine)
        finish(store, verdict)
    put(engine)
    put(engine)
    cut_short, _lost = claim_all(store).claims
    assert recorder(store).record([outcome(cut_short, None)])
    clock.forward(100 * SECOND)
    assert swept(store).rescued == 1
    assert latest(store) == Latest(LATEST, {"main": Attempts(delivered=2, failed=3)})


def test_attempts_are_counted_for_five_minutes(engine: Engine, store: Store, clock: Clock) -> None:
    assert latest(store) == Latest(LATEST, {})
    put(engine)
    finish(store, DELIVERED)
    clock.forward(LATEST)
    assert latest(store).of == {"main": Attempts(delivered=1)}
    clock.forward(SECOND)
    assert latest(store).of == {}


def test_of_more_attempts_than_are_counted_the_latest_tell_of_a_shorter_time(
    engine: Engine, store: Store, clock: Clock
) -> None:
    for verdict in (DELIVERED, REFUSED, DELIVERED, REFUSED):
        clock.forward(10 * SECOND)
        put(engine)
        finish(store, verdict, seconds=0)
    assert latest(store, most=5) == Latest(LATEST, {"main": Attempts(2, 2)})
    assert latest(store, most=3) == Latest(20 * SECOND, {"main": Attempts(1, 2)})
    assert latest(store, most=1) == Latest(SECOND, {"main": Attempts(0, 1)}), "which is never none"
