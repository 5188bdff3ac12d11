"""Claiming: which messages an engine gets, and what is written before it may send them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from orderflow_outbox import WhenDead, enqueue
from orderflow_outbox.states import HELD
from tests.databases import on_postgresql, on_postgresql_first, on_sqlite_first
from tests.documents import order
from tests.rig import eventually
from tests.steps import (
    ALERT_TIMES,
    DELIVERED,
    LATER,
    LEASE,
    REFUSED,
    SECOND,
    Clock,
    another_connection,
    claim_all,
    claim_one,
    destinations,
    finish,
    outcome,
    put,
    recorder,
    row,
    set_row,
)
from worker.breaker import BreakerState
from worker.by_hand import hold, resume
from worker.looking import Looker
from worker.settling import settle
from worker.store import gates, leasing
from worker.store.claiming import LOOK_AGAIN_AFTER, claim, next_due
from worker.store.leasing import MOST_BYTES, fitting
from worker.store.recording import record
from worker.store.transactions import Store

LATEST = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


def claimed_ids(store: Store, room: int = 100) -> list[int]:
    return [each.id for each in claim_all(store, room).claims]


def test_only_what_is_due_is_claimed(engine: Engine, store: Store, clock: Clock) -> None:
    due = put(engine)
    later = put(engine, deliver_after=clock.now + SECOND)
    assert claimed_ids(store) == [due]
    clock.forward(SECOND)
    assert claimed_ids(store) == [later]


def test_what_has_been_due_longest_is_claimed_first(engine: Engine, store: Store, clock: Clock) -> None:
    last, first, second = (put(engine, deliver_after=clock.now - ago * SECOND) for ago in (1, 3, 2))
    assert claimed_ids(store, room=1) == [first]
    assert claimed_ids(store, room=1) == [second]
    assert claimed_ids(store, room=1) == [last]


def test_of_what_is_due_at_one_moment_the_earliest_enqueued_is_claimed_first(
    engine: Engine, store: Store, clock: Clock
) -> None:
    ids = [put(engine, deliver_after=clock.now) for _ in range(3)]
    assert [claimed_ids(store, room=1) for _ in ids] == [[each] for each in ids]


@on_sqlite_first
def test_a_claim_counts_the_attempt_raises_the_token_and_leases(
    engine: Engine, store: Store, clock: Clock
) -> None:
    message_id = put(engine)
    before = row(engine, message_id)
    claimed = claim_one(store)
    after = row(engine, message_id)
    assert (after["state"], after["attempts"], after["tries"]) == ("sending", 1, 0)
    assert after["lease_token"] == before["lease_token"] + 1
    assert after["lease_until"] == clock.now + LEASE
    assert (claimed.attempt, claimed.token, claimed.claimed_at) == (1, after["lease_token"], clock.now)


@on_postgresql_first
def test_a_claim_hands_over_the_message_as_it_was_enqueued(engine: Engine, store: Store) -> None:
    document = order("SO-1").encode()
    put(engine, payload=document, headers={"X-Trace": "7"}, idempotency_key="so-1", key="order:SO-1")
    claimed = claim_one(store)
    assert (claimed.payload, claimed.headers, claimed.query) == (document, {"X-Trace": "7"}, {})
    assert (claimed.idempotency_key, claimed.key, claimed.channel) == ("so-1", "order:SO-1", "SHOP")


@on_sqlite_first
def test_each_claim_of_a_message_has_its_own_token_and_attempt(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put(engine)
    first = finish(store, LATER)
    clock.forward(timedelta(days=1))
    second = claim_one(store)
    assert (second.attempt, second.tries) == (2, 1)
    assert second.token > first.token


@on_sqlite_first
def test_what_is_being_sent_is_not_claimed_again(engine: Engine, store: Store) -> None:
    put(engine)
    assert len(claimed_ids(store)) == 1
    assert claimed_ids(store) == []


@on_sqlite_first
@pytest.mark.parametrize("verdict", [DELIVERED, REFUSED], ids=["delivered", "dead"])
def test_what_has_ended_is_never_claimed(engine: Engine, store: Store, clock: Clock, verdict: object) -> None:
    put(engine)
    finish(store, verdict)
    clock.forward(timedelta(days=30))
    assert claimed_ids(store) == []


def test_no_more_is_claimed_than_there_is_room_for(engine: Engine, store: Store) -> None:
    for _ in range(5):
        put(engine)
    first, second, third = (claim_all(store, room=2) for _ in range(3))
    assert [len(each.claims) for each in (first, second, third)] == [2, 2, 1]
    assert [each.more for each in (first, second, third)] == [True, True, False]


def test_messages_that_must_wait_do_not_keep_those_of_other_keys_waiting(
    engine: Engine, store: Store
) -> None:
    first, *_ = (put(engine, key="order:1") for _ in range(30))
    others = [put(engine), put(engine, key="order:2")]
    claimed = claim_all(store, room=3)
    assert [each.id for each in claimed.claims] == [first, *others]
    assert claimed.more is False
    assert claimed_ids(store) == []


def test_no_more_is_claimed_than_there_is_room_for_though_more_is_looked_at(
    engine: Engine, store: Store
) -> None:
    for _ in range(3):
        put(engine, key="order:1")
    for _ in range(5):
        put(engine)
    claimed = claim_all(store, room=3)
    assert len(claimed.claims) == 3
    assert len(claim_all(store).claims) == 3


@on_sqlite_first
def test_only_messages_of_the_destination_asked_for_are_claimed(engine: Engine, store: Store) -> None:
    put(engine, destination="elsewhere")
    here = put(engine)
    assert claimed_ids(store) == [here]


@on_sqlite_first
def test_nothing_is_claimed_for_a_destination_that_is_held(engine: Engine, store: Store) -> None:
    hold(store, "main", "ann", "their night")
    put(engine)
    there = put(engine, destination="elsewhere")
    looker = Looker(store, LEASE)
    look = looker.look({"main": 5, "elsewhere": 5})
    assert ([each.id for each in look.claims], look.shut) == ([there], {"main"})
    resume(store, "main", "ann", "morning")
    look = looker.look({"main": 5, "elsewhere": 5})
    assert (len(look.claims), look.shut) == (1, frozenset())


def test_the_next_moment_is_that_of_the_message_due_first(engine: Engine, store: Store, clock: Clock) -> None:
    for seconds in (30, 10, 20):
        put(engine, deliver_after=clock.now + seconds * SECOND)
    put(engine, destination="elsewhere", deliver_after=clock.now + SECOND)
    with store.reading() as transaction:
        assert next_due(transaction, "main") == clock.now + 10 * SECOND
        assert next_due(transaction, "nowhere") is None


def test_a_message_waits_parked_for_an_earlier_one_of_its_key(engine: Engine, store: Store) -> None:
    elder, younger = (put(engine, key="order:1") for _ in range(2))
    assert claimed_ids(store) == [elder]
    parked = row(engine, younger)
    assert (parked["state"], parked["due_at"], parked["attempts"], parked["lease_token"]) == (
        "pending",
        None,
        0,
        0,
    )


@on_sqlite_first
def test_messages_of_other_keys_and_of_none_do_not_wait(engine: Engine, store: Store) -> None:
    put(engine, key="order:1")
    free = [put(engine, key="order:2"), put(engine), put(engine)]
    assert claimed_ids(store)[1:] == free


@on_sqlite_first
def test_the_same_key_at_another_destination_is_another_key(engine: Engine, store: Store) -> None:
    put(engine, key="order:1", destination="elsewhere")
    here = put(engine, key="order:1")
    assert claimed_ids(store) == [here]


@on_postgresql_first
def test_a_message_waits_for_an_elder_that_itself_waits_for_its_next_try(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put(engine, key="order:1")
    finish(store, LATER)
    younger = put(engine, key="order:1", deliver_after=clock.now - SECOND)
    assert claimed_ids(store) == []
    assert row(engine, younger)["due_at"] is None


def test_an_elder_that_no_longer_blocks_is_not_waited_for(engine: Engine, store: Store) -> None:
    elder, younger = (put(engine, key="order:1") for _ in range(2))
    set_row(engine, elder, state="cancelled", due_at=None, blocks=False)
    assert claimed_ids(store) == [younger]


def test_a_claim_that_is_rolled_back_was_never_made(engine: Engine, store: Store) -> None:
    message_id = put(engine)

    def fail_after_claiming() -> None:
        with store.writing() as transaction:
            assert claim(transaction, "main", 1, LEASE).claims
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_claiming()
    assert (row(engine, message_id)["state"], row(engine, message_id)["attempts"]) == ("pending", 0)


def test_two_engines_claiming_at_once_never_get_the_same_message(engine: Engine) -> None:
    with engine.begin() as connection:
        document = order("SO-1")
        ids = {enqueue(connection, "order-import", document, channel="SHOP").id for _ in range(200)}
    clock = Clock()
    got: list[list[int]] = [[], []]
    both = threading.Barrier(2)

    def claim_in_rounds(mine: list[int]) -> None:
        store = Store(another_connection(engine), clock)
        for _ in range(10):
            both.wait()
            mine.extend(each.id for each in claim_all(store, room=10).claims)
        store.close()

    threads = [threading.Thread(target=claim_in_rounds, args=(mine,)) for mine in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got[0] + got[1]) == sorted(ids)
    assert [len(mine) for mine in got] == [100, 100]


@on_sqlite_first
def test_a_result_of_one_claim_says_nothing_of_the_next(engine: Engine, store: Store, clock: Clock) -> None:
    message_id = put(engine)
    first = finish(store, LATER)
    clock.forward(timedelta(days=1))
    claim_one(store)
    assert recorder(store).record([outcome(first, DELIVERED)])
    assert row(engine, message_id)["state"] == "sending"


# Two engines at one key: what one reads may be gone before the other has written


def waits_for_a_lock(engine: Engine) -> bool:
    """Tell whether a session waits for a row that another holds."""
    waiting = "wait_event_type = 'Lock' AND datname = current_database()"
    with engine.connect() as connection:
        return connection.scalar(text(f"SELECT count(*) FROM pg_stat_activity WHERE {waiting}")) == 1


@on_postgresql
def test_a_message_is_not_parked_behind_an_elder_that_is_recorded_at_that_moment(
    engine: Engine, store: Store, clock: Clock
) -> None:
    elder, younger = (put(engine, key="order:1") for _ in range(2))
    (claimed,) = claim_all(store, room=1).claims
    policy = destinations()["main"].retry
    done = settle(outcome(claimed, DELIVERED), clock.now, policy, WhenDead.WAIT, lambda: 0.5)
    with store.writing() as recording:
        record(recording, [done], ALERT_TIMES)
        assert claimed_ids(store) == []
    assert row(engine, elder)["state"] == "delivered"
    clock.forward(LOOK_AGAIN_AFTER)
    assert claimed_ids(store) == [younger]


@on_postgresql
def test_whoever_records_an_elder_sees_the_message_parked_behind_it_at_that_moment(
    engine: Engine, store: Store
) -> None:
    _, younger = (put(engine, key="order:1") for _ in range(2))
    (claimed,) = claim_all(store, room=1).claims
    with ThreadPoolExecutor(1) as other:
        with store.writing() as claiming:
            assert claim(claiming, "main", 10, LEASE).claims == []
            recording = other.submit(recorder(store).record, [outcome(claimed, DELIVERED)])
            eventually(lambda: waits_for_a_lock(engine), 5)
        assert recording.result(5)
    assert claimed_ids(store) == [younger]


LARGE = order("SO-LARGE").replace("</imports>", f"<!--{'x' * 4_000_000}--></imports>")


@pytest.mark.parametrize(
    "paused", [{}, {"return-import": LATEST}], ids=["nothing paused", "something paused"]
)
def test_a_claim_fetches_documents_up_to_a_bound_of_bytes(
    engine: Engine, store: Store, paused: dict[str, datetime]
) -> None:
    ids = [put(engine, payload=LARGE) for _ in range(6)]
    got, more = [], []
    for _ in range(3):
        with store.writing() as transaction:
            claimed = claim(transaction, "main", 100, LEASE, paused=paused)
        got.append([each.id for each in claimed.claims])
        more.append(claimed.more)
    at_once = MOST_BYTES // len(LARGE.encode())
    assert at_once < len(ids)
    assert got == [ids[:at_once], ids[at_once:], []]
    assert more == [True, False, False]


def test_a_document_larger_than_the_bound_is_claimed_alone(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leasing, "MOST_BYTES", 10)
    ids = [put(engine) for _ in range(2)]
    with store.writing() as transaction:
        assert fitting(transaction, ids) == ids[:1]


@pytest.mark.parametrize("gate", ["held", "breaker", "paused"])
def test_what_is_claimed_at_once_is_nothing_of_a_destination_that_is_shut(
    engine: Engine, store: Store, clock: Clock, gate: str
) -> None:
    put(engine)
    with store.writing() as transaction:
        before = gates.lock(transaction, "main")
        shut = {
            "held": replace(before, state=HELD),
            "breaker": replace(before, breaker=replace(before.breaker, state=BreakerState.OPEN)),
            "paused": replace(before, paused_until=clock.now + SECOND),
        }
        gates.write(transaction, "main", before, shut[gate], None)
    with store.writing() as transaction:
        assert claim(transaction, "main", 10, LEASE, unless_shut=True).claims == []
        assert len(claim(transaction, "main", 10, LEASE).claims) == 1, "as by an engine that probes"


@on_sqlite_first
def test_a_look_that_expects_something_tells_of_what_there_is_no_room_for(
    engine: Engine, store: Store
) -> None:
    put(engine), put(engine, destination="other")
    look = Looker(store, LEASE).look({"main": 5, "other": 0}, expecting=True)
    assert [each.destination for each in look.claims] == ["main"]
    assert look.full == {"other"}


@on_postgresql_first
def test_a_look_that_expects_something_in_vain_looks_further(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put(engine, deliver_after=clock.now + SECOND / 2)
    look = Looker(store, LEASE).look({"main": 5}, expecting=True)
    assert look.claims == []
    assert look.wait == pytest.approx(0.5)


@on_sqlite_first
def test_a_look_in_vain_at_a_shut_destination_forgets_nothing_that_waits_there(
    engine: Engine, store: Store, clock: Clock
) -> None:
    looker = Looker(store, LEASE, monotonic=lambda: 0.0)
    looker.look({"main": 5}, expecting=True)
    put(engine, deliver_after=clock.now)
    hold(store, "main", "test", "to see what is forgotten")
    clock.forward(10 * SECOND)
    assert looker.look({"main": 5}, expecting=True).claims == []
    resume(store, "main", "test", "seen")
    assert len(looker.look({"main": 5}, expecting=True).claims) == 1
