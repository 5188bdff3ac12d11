"""A new message ends the older ones that it makes obsolete, and nothing else."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select

from orderflow_outbox import (
    PREDEFINED,
    Catalogue,
    Message,
    NewMessage,
    Operation,
    State,
    WhenDead,
    enqueue,
    enqueue_many,
)
from orderflow_outbox.tables import dead_letter, message
from tests.databases import on_postgresql
from tests.statements import statements
from tests.steps import (
    ALERT_TIMES,
    DELIVERED,
    LATER,
    LEASE,
    REFUSED,
    SECOND,
    Clock,
    claim_all,
    configuration,
    finish,
    outcome,
    put,
    recorder,
    row,
    rows,
    set_row,
)
from worker.looking import Looker
from worker.ports import Step, announce_nothing
from worker.quarantine import Death, Keeper
from worker.recorder import Recorder
from worker.store.transactions import Store
from worker.verdicts import Verdict

CATALOGUE = Catalogue(
    [
        *PREDEFINED.values(),
        Operation("stock-count", "stock/count.xml", None, "stock", supersedes=("stock-count", "stock-move")),
        Operation("stock-move", "stock/move.xml", None, "stock", when_dead=WhenDead.PASS),
    ]
)
KEY = "sku:A"


@pytest.fixture
def store(engine: Engine) -> Store:
    return Store(engine, Clock())


def count(of: Engine | Connection, operation: str = "stock-count", **arguments: Any) -> Message:
    """Enqueue one message, in a transaction of its own where an engine is given."""
    if isinstance(of, Engine):
        with of.begin() as connection:
            return count(connection, operation, **arguments)
    values = {"key": KEY, "catalogue": CATALOGUE, **arguments}
    return enqueue(of, operation, "<stock/>", **values)


def new(operation: str = "stock-count", **arguments: Any) -> NewMessage:
    return NewMessage(operation, "<stock/>", **{"key": KEY, **arguments})


def states(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(select(message.c.state).order_by(message.c.id)))


def test_a_new_message_ends_the_waiting_ones_it_makes_obsolete(engine: Engine, store: Store) -> None:
    retried, parked = count(engine), count(engine, "stock-move")
    claimed = claim_all(store).claims
    assert [each.id for each in claimed] == [retried.id], "the other one is parked behind it"
    assert recorder(store).record([outcome(claimed[0], LATER)])
    fresh = count(engine)
    for elder in (retried, parked):
        ended = row(engine, elder.id)
        assert (ended.state, ended.blocks, ended.due_at) == ("superseded", False, None)
        assert ended.finished_at is not None
    assert (fresh.state, row(engine, fresh.id).state) == (State.PENDING, "pending")
    assert [each.id for each in claim_all(store).claims] == [fresh.id]


def test_a_message_that_is_obsolete_by_the_time_its_process_dies_is_superseded(
    engine: Engine, store: Store
) -> None:
    count(engine)
    (claimed,) = claim_all(store).claims
    count(engine)
    known = replace(configuration(), catalogue=CATALOGUE)
    told: list[Step] = []
    keeper = Keeper(store, known, ALERT_TIMES, lambda step, *_: told.append(step))
    keeper.bury_or_retry(Death(claimed, "vanished"))
    assert states(engine) == ["superseded", "pending"]
    assert told == [Step.SUPERSEDED]


def test_a_message_that_is_obsolete_by_the_time_its_attempt_fails_is_announced_as_superseded(
    engine: Engine, store: Store
) -> None:
    count(engine)
    (claimed,) = claim_all(store).claims
    count(engine)
    known = replace(configuration(), catalogue=CATALOGUE)
    told: list[Step] = []
    recording = Recorder(store, known, ALERT_TIMES, lambda step, *_: told.append(step))
    assert recording.record([outcome(claimed, LATER)])
    assert (states(engine), told) == (["superseded", "pending"], [Step.SUPERSEDED])


def test_a_rolled_back_message_has_ended_nothing(engine: Engine) -> None:
    elder = count(engine)
    before = row(engine, elder.id)
    with engine.connect() as connection:
        count(connection)
        connection.rollback()
    assert row(engine, elder.id) == before


@pytest.mark.parametrize(
    "elder",
    [
        {"key": "sku:B"},
        {"key": None},
        {"destination": "other"},
        {"operation": "order-import", "channel": "web"},
    ],
    ids=str,
)
def test_what_the_new_message_does_not_replace_goes_on_waiting(engine: Engine, elder: dict[str, Any]) -> None:
    operation = elder.get("operation", "stock-count")
    values = {**elder, "operation": operation, "key": elder.get("key", KEY) if "key" in elder else KEY}
    payload = "<imports><import/></imports>" if operation == "order-import" else "<stock/>"
    with engine.begin() as connection:
        enqueue(connection, payload=payload, catalogue=CATALOGUE, **values)
    count(engine, version=7)
    assert states(engine) == ["pending", "pending"]


@pytest.mark.parametrize(("elder", "later"), [(7, 7), (6, 7), (None, 7), (7, None)])
def test_an_elder_of_no_higher_version_ends(engine: Engine, elder: int | None, later: int | None) -> None:
    count(engine, version=elder)
    count(engine, version=later)
    assert states(engine) == ["superseded", "pending"]


def recording(store: Store) -> Recorder:
    return Recorder(store, replace(configuration(), catalogue=CATALOGUE), ALERT_TIMES, announce_nothing)


def looking(store: Store) -> list[int]:
    looker = Looker(store, LEASE, CATALOGUE.superseded_by)
    return [each.id for each in looker.look({"main": 100}).claims]


@pytest.mark.parametrize(
    "verdict", [LATER, REFUSED, None], ids=["to be tried again", "refused", "given back"]
)
def test_an_elder_in_flight_ends_when_its_attempt_fails(
    engine: Engine, store: Store, verdict: Verdict | None
) -> None:
    elder = count(engine, "stock-move")
    (claimed,) = claim_all(store).claims
    fresh = count(engine)
    assert recording(store).record([outcome(claimed, verdict)])
    assert states(engine) == ["superseded", "pending"]
    ended = row(engine, elder.id)
    assert (ended.blocks, ended.due_at, ended.finished_at is not None) == (False, None, True)
    assert rows(engine, dead_letter) == []
    assert looking(store) == [fresh.id]


def test_an_elder_in_flight_that_is_delivered_is_delivered(engine: Engine, store: Store) -> None:
    count(engine)
    (claimed,) = claim_all(store).claims
    count(engine)
    assert recording(store).record([outcome(claimed, DELIVERED)])
    assert states(engine) == ["delivered", "pending"]


@pytest.mark.parametrize(
    ("elder", "newer"),
    [
        ({}, {"key": "sku:B"}),
        ({}, {"operation": "stock-move"}),
        ({"key": None}, {"key": None}),
    ],
    ids=str,
)
def test_an_elder_in_flight_that_nothing_replaces_is_tried_again(
    engine: Engine, store: Store, elder: dict[str, Any], newer: dict[str, Any]
) -> None:
    count(engine, **elder)
    (claimed,) = claim_all(store).claims
    count(engine, **newer)
    assert recording(store).record([outcome(claimed, LATER)])
    assert states(engine) == ["pending", "pending"]


def test_an_elder_that_was_rescued_ends_when_it_is_claimed(engine: Engine, store: Store) -> None:
    elder = count(engine)
    assert len(claim_all(store).claims) == 1
    fresh = count(engine)
    set_row(engine, elder.id, state="pending", due_at=elder.created_at, lease_until=None)
    assert looking(store) == []
    assert states(engine) == ["superseded", "pending"]
    assert looking(store) == [fresh.id]


def test_what_is_being_sent_or_has_ended_is_left_alone(engine: Engine, store: Store) -> None:
    count(engine)
    finish(store, DELIVERED)
    sending = count(engine)
    assert [each.id for each in claim_all(store).claims] == [sending.id]
    count(engine)
    assert states(engine) == ["delivered", "sending", "pending"]


def test_a_repeated_message_ends_nothing(engine: Engine) -> None:
    count(engine, idempotency_key="k")
    count(engine, "stock-move")
    assert not count(engine, idempotency_key="k").created
    assert states(engine) == ["pending", "pending"]


def test_the_elder_may_be_in_the_same_call(engine: Engine) -> None:
    before = count(engine)
    given = [new(), new("stock-move", version=9), new(version=8), new(key="sku:B"), new(key=None)]
    with engine.begin() as connection:
        stored = enqueue_many(connection, given, catalogue=CATALOGUE)
    assert row(engine, before.id).state == "superseded"
    assert [each.state for each in stored] == ["superseded", *["pending"] * 4]
    assert [(each.state, each.due_at) for each in stored] == [
        (row(engine, each.id).state, row(engine, each.id).due_at) for each in stored
    ]


@on_postgresql
def test_many_end_many_by_few_statements(engine: Engine) -> None:
    with engine.begin() as connection:
        enqueue_many(connection, [new(key=f"sku:{n}") for n in range(300)], catalogue=CATALOGUE)
        with statements(engine) as seen:
            enqueue_many(connection, [new(key=f"sku:{n}") for n in range(300)], catalogue=CATALOGUE)
    assert len(seen) <= 6, seen
    assert states(engine) == ["superseded"] * 300 + ["pending"] * 300


@on_postgresql
def test_a_row_that_another_transaction_holds_is_not_waited_for(engine: Engine) -> None:
    held, free = count(engine, "stock-move"), count(engine, "stock-move")
    with engine.connect() as other:
        other.execute(select(message.c.id).where(message.c.id == held.id).with_for_update())
        begun = time.monotonic()
        with engine.begin() as connection:
            count(connection)
            enqueue_many(connection, [new(key="sku:B"), new(key="sku:C")], catalogue=CATALOGUE)
        assert time.monotonic() - begun < 1
        other.rollback()
    assert (row(engine, held.id).state, row(engine, free.id).state) == ("pending", "superseded")


def test_what_was_parked_behind_the_ended_is_due_with_the_commit(engine: Engine, store: Store) -> None:
    elder = count(engine, "stock-move", deliver_after=store_now(store) + timedelta(hours=1))
    follower = put(engine, KEY)
    assert claim_all(store).claims == []
    assert row(engine, follower).due_at is None, "it is parked"
    fresh = count(engine)
    assert row(engine, elder.id).state == "superseded"
    assert [each.id for each in claim_all(store).claims] == [follower]
    assert fresh.id > follower


def test_what_was_parked_stays_so_behind_another(engine: Engine, store: Store) -> None:
    put(engine, KEY, deliver_after=store_now(store) + timedelta(hours=1))
    count(engine, "stock-move")
    follower = put(engine, KEY)
    claim_all(store)
    count(engine)
    assert row(engine, follower).due_at is None


def store_now(store: Store) -> Any:
    with store.reading() as transaction:
        return transaction.now


@on_postgresql
def test_an_open_transaction_of_the_shop_does_not_keep_results_from_being_recorded(
    engine: Engine, store: Store
) -> None:
    sending, parked = put(engine, KEY), count(engine, "stock-move")
    (claimed,) = claim_all(store).claims
    assert claim_all(store).claims == []
    assert row(engine, parked.id).due_at is None
    with engine.connect() as shop:
        count(shop)
        begun = time.monotonic()
        assert recorder(store).record([outcome(claimed, DELIVERED)])
        assert time.monotonic() - begun < 1
        shop.rollback()
    assert row(engine, sending).state == "delivered"


@on_postgresql
def test_an_open_transaction_of_the_shop_does_not_keep_other_messages_from_being_claimed(
    engine: Engine, store: Store
) -> None:
    later = store_now(store) + timedelta(hours=1)
    count(engine, "stock-move", deliver_after=later)
    follower, stranger = put(engine, KEY), put(engine)
    with engine.connect() as shop:
        fresh = count(shop)
        begun = time.monotonic()
        assert [each.id for each in claim_all(store).claims] == [stranger]
        assert time.monotonic() - begun < 1
        due_at = row(engine, follower).due_at
        assert due_at is not None
        assert due_at > store_now(store), "else the engine looks again and again at once"
        shop.commit()
    store = Store(engine, lambda _: store_now(Store(engine, Clock())) + SECOND)
    assert [each.id for each in claim_all(store).claims] == [follower]
    assert fresh.state is State.PENDING


@on_postgresql
def test_two_shops_that_supersede_each_other_at_once_both_go_through(engine: Engine) -> None:
    keys = [f"sku:{n}" for n in range(50)]
    with engine.begin() as connection:
        enqueue_many(connection, [new(key=key) for key in keys], catalogue=CATALOGUE)
    barrier = threading.Barrier(2)
    failed: list[Exception] = []

    def shop(order: list[str]) -> None:
        barrier.wait()
        try:
            with engine.begin() as connection:
                for key in order:
                    count(connection, key=key)
        except Exception as error:
            failed.append(error)

    shops = [threading.Thread(target=shop, args=(order,)) for order in (keys, keys[::-1])]
    for each in shops:
        each.start()
    for each in shops:
        each.join(20)
    assert failed == []
    assert states(engine)[:50] == ["superseded"] * 50
