"""A person is warned of messages before their life ends, wherever they wait."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from orderflow_outbox.tables import dead_letter, incident, message
from tests.databases import on_postgresql_first, on_sqlite_first
from tests.steps import (
    ALERT_TIMES,
    DAY,
    DELIVERED,
    LATER,
    LEASE,
    SECOND,
    Clock,
    bury,
    claim_all,
    claim_one,
    configuration,
    destinations,
    finish,
    put,
    rows,
    set_row,
    swept,
)
from worker.by_hand import cancel, hold
from worker.lifetimes import UNKNOWN_DESTINATION, lifetimes_of
from worker.store.aging import Aging, lives_of_the_waiting, open_warning
from worker.store.incidents import lease_due_alert
from worker.store.transactions import Store
from worker.telling import document_of
from worker.warning import warn

SHARE = configuration().settings.alerts.expiry_warning
LIFE = 10 * timedelta(hours=1)


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


def warnings(engine: Engine) -> list[Any]:
    return [each for each in rows(engine, incident) if each["cause"] == "expiring"]


def open_warnings(engine: Engine) -> list[Any]:
    return [each for each in warnings(engine) if each["resolved_at"] is None]


def told(store: Store, clock: Clock) -> str | None:
    """Return what the alert that is due says, and have it be over."""
    clock.forward(ALERT_TIMES.grouping + SECOND)
    with store.writing() as transaction:
        alert = lease_due_alert(transaction, LEASE)
    return None if alert is None else str(document_of(alert)["text"])


@pytest.mark.parametrize("limit", ["expires_at", "largest age"])
def test_a_warning_comes_at_its_share_of_a_life_and_not_before(
    engine: Engine, store: Store, clock: Clock, limit: str
) -> None:
    message_id = put(engine, expires_at=clock.now + LIFE if limit == "expires_at" else None)
    life = LIFE if limit == "expires_at" else destinations()["main"].retry.max_age
    clock.forward(SHARE * life - 2 * timedelta(minutes=1))
    assert swept(store).aging == 0
    assert warnings(engine) == []
    clock.forward(3 * timedelta(minutes=1))
    assert swept(store).aging == 1
    (warning,) = warnings(engine)
    assert (warning["operation"], warning["reason"], warning["occurrences"]) == (
        "order-import",
        "expiring",
        1,
    )
    assert warning["sample_message_id"] == message_id
    assert "undelivered after 80% of their life; the first, message 1, ends on " in warning["text"]
    assert rows(engine, dead_letter) == []


@on_postgresql_first
def test_the_alert_says_how_many_will_expire_and_when(engine: Engine, store: Store, clock: Clock) -> None:
    for _ in range(3):
        put(engine, expires_at=clock.now + LIFE)
    ends = clock.now + LIFE
    clock.forward(0.9 * LIFE)
    swept(store)
    text = told(store, clock)
    assert text is not None
    assert text.startswith("3 messages of order-import to main will expire: ")
    assert text.endswith(f"ends on {ends:%Y-%m-%d %H:%M:%S} UTC")


@pytest.mark.parametrize("where", ["waiting for its next try", "parked", "held", "sending", "to nobody"])
def test_a_warning_comes_wherever_a_message_waits(
    engine: Engine, store: Store, clock: Clock, where: str
) -> None:
    if where == "parked":
        bury(store, engine, key="order:1")
    elsewhere = {"destination": "closed-down"} if where == "to nobody" else {}
    key = {"key": "order:1"} if where == "parked" else {}
    message_id = put(engine, expires_at=clock.now + LIFE, **elsewhere, **key)
    if where == "waiting for its next try":
        finish(store, LATER)
        set_row(engine, message_id, due_at=clock.now + DAY)
    elif where == "parked":
        assert claim_all(store).claims == []
    elif where == "held":
        hold(store, "main", "ann", "their stocktaking")
    clock.forward(0.9 * LIFE)
    if where == "sending":
        claim_one(store)
    assert swept(store).aging == 1
    assert len(open_warnings(engine)) == 1


@on_sqlite_first
def test_a_message_of_an_unknown_destination_is_warned_of_by_the_usual_age(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put(engine, destination="closed-down")
    clock.forward(0.9 * UNKNOWN_DESTINATION.max_age)
    assert swept(store).aging == 1


@on_sqlite_first
def test_an_operation_with_an_age_of_its_own_is_warned_of_by_that(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put(engine, operation="order-cancel", payload=None, query={"externalReference": "SO-1"})
    put(engine)
    clock.forward(0.9 * destinations()["main"].retry_policy("order-cancel").max_age)
    assert swept(store).aging == 1
    assert [each["operation"] for each in warnings(engine)] == ["order-cancel"]


@on_sqlite_first
def test_a_warning_is_given_once_while_nothing_changes(engine: Engine, store: Store, clock: Clock) -> None:
    put(engine, expires_at=clock.now + LIFE)
    clock.forward(0.9 * LIFE)
    swept(store)
    before = warnings(engine)
    clock.forward(SECOND)
    assert swept(store).aging == 1
    assert warnings(engine) == before


@on_sqlite_first
def test_each_message_is_warned_of_though_others_end_meanwhile(
    engine: Engine, store: Store, clock: Clock
) -> None:
    """Given five whose lives end one after the other: never more than two are near their end at once."""
    hold(store, "main", "ann", "their stocktaking")
    begun = clock.now
    for n in range(5):
        put(engine, expires_at=begun + LIFE * (1 + 0.2 * n))
    for step in range(30):
        clock.now = begun + LIFE * (0.5 + 0.05 * step)
        swept(store)
    assert {each["state"] for each in rows(engine, message)} == {"dead"}
    assert sum(each["occurrences"] for each in warnings(engine)) == 5
    assert open_warnings(engine) == []


def test_a_warning_names_the_first_that_is_still_to_end(engine: Engine, store: Store, clock: Clock) -> None:
    put(engine, expires_at=clock.now + LIFE)
    put(engine, expires_at=clock.now + 1.1 * LIFE)
    clock.forward(0.85 * LIFE)
    swept(store)
    clock.forward(0.16 * LIFE)
    swept(store)
    (warning,) = warnings(engine)
    assert (warning["occurrences"], warning["sample_message_id"]) == (2, 2)


@on_sqlite_first
def test_a_message_that_is_tried_again_keeps_its_warning_open(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put(engine, expires_at=clock.now + LIFE)
    clock.forward(0.9 * LIFE)
    swept(store)
    claim_one(store)
    swept(store)
    (warning,) = warnings(engine)
    assert warning["resolved_at"] is None


@on_sqlite_first
@pytest.mark.parametrize("end", ["delivered", "cancelled", "expired"])
def test_a_warning_is_resolved_once_its_messages_have_ended(
    engine: Engine, store: Store, clock: Clock, end: str
) -> None:
    message_id = put(engine, expires_at=clock.now + LIFE)
    clock.forward(0.9 * LIFE)
    swept(store)
    assert len(open_warnings(engine)) == 1
    if end == "delivered":
        finish(store, DELIVERED)
    elif end == "cancelled":
        cancel(store, message_id, "ann", "no longer wanted")
    else:
        clock.forward(LIFE)
    swept(store)
    assert open_warnings(engine) == []


@on_postgresql_first
def test_what_is_past_its_end_is_ended_and_not_warned_of(engine: Engine, store: Store, clock: Clock) -> None:
    """Given a service that was down meanwhile."""
    put(engine, expires_at=clock.now + LIFE)
    clock.forward(2 * LIFE)
    assert (swept(store).aging, warnings(engine)) == (0, [])
    assert [each["reason"] for each in rows(engine, dead_letter)] == ["expired"]


def test_two_sweeps_at_once_count_a_message_once(engine: Engine, store: Store, clock: Clock) -> None:
    """Given two that have looked before either wrote."""
    put(engine, expires_at=clock.now + LIFE)
    clock.forward(0.9 * LIFE)
    with store.reading() as look:
        near = lives_of_the_waiting(look, lifetimes_of(configuration())).aging
    for _ in range(2):
        warn(store, configuration(), near, {}, ALERT_TIMES)
        clock.forward(SECOND)
    (warning,) = warnings(engine)
    assert warning["occurrences"] == 1


def test_a_warning_that_another_sweep_opens_at_the_same_moment_is_left_at_that(
    engine: Engine, store: Store
) -> None:
    put(engine)
    for number in (3, 2):
        with store.writing() as transaction:
            open_warning(transaction, Aging("main", "order-import", number, 1), "soon", ALERT_TIMES)
    (warning,) = warnings(engine)
    assert warning["occurrences"] == 3


@on_sqlite_first
def test_an_alert_that_is_no_longer_true_is_not_sent(engine: Engine, store: Store, clock: Clock) -> None:
    message_id = put(engine, expires_at=clock.now + LIFE)
    clock.forward(0.9 * LIFE)
    swept(store)
    cancel(store, message_id, "ann", "no longer wanted")
    swept(store)
    assert told(store, clock) is None


@on_sqlite_first
def test_the_alert_is_due_at_once(engine: Engine, store: Store, clock: Clock) -> None:
    put(engine, expires_at=clock.now + LIFE)
    clock.forward(0.9 * LIFE)
    swept(store)
    assert warnings(engine)[0]["alert_due_at"] == clock.now
