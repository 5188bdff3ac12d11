"""The sweep: leases that ran out, parked messages nobody freed, messages past their end."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine

from orderflow_outbox.tables import attempt, dead_letter, incident
from tests.steps import (
    DAY,
    DELIVERED,
    LATER,
    LEASE,
    REFUSED,
    SECOND,
    Clock,
    another_connection,
    bury,
    claim_all,
    claim_one,
    destinations,
    finish,
    outcome,
    put,
    recorder,
    row,
    rows,
    set_row,
    swept,
)
from worker.by_hand import hold
from worker.failpoints import Failpoint
from worker.lifetimes import UNKNOWN_DESTINATION
from worker.store import sweeping
from worker.store.aging import Lifetimes
from worker.store.transactions import Store
from worker.sweep import Swept

NOTHING = Swept(0, 0, 0, 0)


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


def test_there_is_nothing_to_sweep_where_all_is_well(engine: Engine, store: Store, clock: Clock) -> None:
    put(engine)
    put(engine, key="order:1")
    claim_all(store, room=1)
    put(engine, deliver_after=clock.now + DAY)
    assert swept(store) == NOTHING


def test_an_expired_lease_is_taken_back_in_doubt(engine: Engine, store: Store, clock: Clock) -> None:
    message_id = put(engine)
    claimed = claim_one(store)
    clock.forward(LEASE + SECOND)
    assert swept(store) == Swept(rescued=1, unparked=0, aging=0, expired=0)
    after = row(engine, message_id)
    assert (after["state"], after["due_at"], after["lease_until"]) == ("pending", clock.now, None)
    assert (after["in_doubt"], after["rescues"]) == (True, 1)
    assert after["lease_token"] > claimed.token


def test_a_rescue_spends_no_try_and_keeps_the_attempt_counted(
    engine: Engine, store: Store, clock: Clock
) -> None:
    message_id = put(engine)
    finish(store, LATER)
    clock.forward(DAY)
    claim_one(store)
    clock.forward(2 * LEASE)
    swept(store)
    assert (row(engine, message_id)["tries"], row(engine, message_id)["attempts"]) == (1, 2)


def test_a_rescue_logs_the_attempt_with_an_unknown_outcome(
    engine: Engine, store: Store, clock: Clock
) -> None:
    message_id = put(engine)
    claim_one(store)
    clock.forward(2 * LEASE)
    swept(store)
    (logged,) = rows(engine, attempt, message_id=message_id)
    assert (logged["n"], logged["verdict"], logged["in_doubt"]) == (1, "rescued", True)
    assert "outcome unknown" in logged["error"]
    assert (logged["started_at"], logged["status"], logged["reply_body"]) == (None, None, None)


def test_a_live_lease_is_left_alone(engine: Engine, store: Store, clock: Clock) -> None:
    message_id = put(engine)
    claimed = claim_one(store)
    before = row(engine, message_id)
    clock.forward(LEASE)
    assert swept(store) == NOTHING
    assert row(engine, message_id) == before
    recorder(store).record([outcome(claimed, DELIVERED)])
    assert row(engine, message_id)["state"] == "delivered"


def test_a_rescued_message_is_claimed_again_as_in_doubt(engine: Engine, store: Store, clock: Clock) -> None:
    put(engine)
    claim_one(store)
    clock.forward(2 * LEASE)
    swept(store)
    again = claim_one(store)
    assert (again.attempt, again.in_doubt) == (2, True)


def test_a_rescue_does_not_let_the_key_go_on(engine: Engine, store: Store, clock: Clock) -> None:
    put(engine, key="order:1")
    younger = put(engine, key="order:1")
    claim_one(store)
    clock.forward(2 * LEASE)
    assert swept(store) == Swept(rescued=1, unparked=0, aging=0, expired=0)
    assert row(engine, younger)["due_at"] is None


def test_many_expired_leases_are_taken_back_a_batch_at_a_time(
    engine: Engine, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "_find_run_out", sweeping._find_run_out.limit(2))
    for _ in range(3):
        put(engine)
    claim_all(store)
    clock.forward(2 * LEASE)
    assert [swept(store).rescued for _ in range(3)] == [2, 1, 0]


def parked_behind(engine: Engine, store: Store) -> tuple[int, int]:
    """Return an elder that is being sent and a message parked behind it."""
    elder, younger = (put(engine, key="order:1") for _ in range(2))
    assert claim_one(store).id == elder
    return elder, younger


def test_a_parked_message_that_was_forgotten_is_freed(engine: Engine, store: Store, clock: Clock) -> None:
    elder, younger = parked_behind(engine, store)
    set_row(engine, elder, state="delivered", lease_until=None, blocks=False)
    assert swept(store) == Swept(rescued=0, unparked=1, aging=0, expired=0)
    assert row(engine, younger)["due_at"] == clock.now
    assert claim_one(store).id == younger


def test_a_parked_message_whose_elder_blocks_stays_parked(engine: Engine, store: Store) -> None:
    _, younger = parked_behind(engine, store)
    assert swept(store) == NOTHING
    assert row(engine, younger)["due_at"] is None


def test_of_several_forgotten_ones_of_a_key_only_the_first_is_freed(engine: Engine, store: Store) -> None:
    elder, younger = parked_behind(engine, store)
    youngest = put(engine, key="order:1")
    claim_all(store)
    set_row(engine, elder, state="delivered", lease_until=None, blocks=False)
    assert swept(store).unparked == 1
    assert row(engine, younger)["due_at"] is not None
    assert row(engine, youngest)["due_at"] is None


def died_unsent(engine: Engine, message_id: int) -> None:
    after = row(engine, message_id)
    assert (after["state"], after["attempts"], after["due_at"], after["lease_until"]) == (
        "dead",
        0,
        None,
        None,
    )
    (letter,) = rows(engine, dead_letter, message_id=message_id)
    assert letter["reason"] == "expired"
    assert "not delivered before its end on" in letter["text"]
    assert rows(engine, incident, id=letter["incident_id"])[0]["reason"] == "expired"
    assert rows(engine, attempt, message_id=message_id) == []


@pytest.mark.parametrize("limit", ["expires_at", "largest age"])
def test_a_due_message_past_its_end_dies_without_an_attempt(
    engine: Engine, store: Store, clock: Clock, limit: str
) -> None:
    message_id = put(engine, expires_at=clock.now + DAY if limit == "expires_at" else None)
    age = DAY if limit == "expires_at" else destinations()["main"].retry.max_age
    clock.forward(age - 5 * timedelta(minutes=1))
    assert swept(store).expired == 0
    clock.forward(5 * timedelta(minutes=1))
    assert swept(store) == Swept(rescued=0, unparked=0, aging=0, expired=1)
    died_unsent(engine, message_id)


def test_an_operation_may_have_an_age_of_its_own(engine: Engine, store: Store, clock: Clock) -> None:
    of_a_day = put(engine, operation="order-cancel", payload=None, query={"externalReference": "SO-1"})
    of_a_week = put(engine)
    clock.forward(2 * DAY)
    assert swept(store).expired == 1
    died_unsent(engine, of_a_day)
    assert row(engine, of_a_week)["state"] == "pending"


def test_a_message_dies_at_its_end_while_it_waits_for_its_next_try(
    engine: Engine, store: Store, clock: Clock
) -> None:
    message_id = put(engine, expires_at=clock.now + DAY)
    finish(store, LATER)
    set_row(engine, message_id, due_at=clock.now + 2 * DAY)
    clock.forward(DAY)
    assert swept(store).expired == 1
    after = row(engine, message_id)
    assert (after["state"], after["attempts"], after["tries"]) == ("dead", 1, 1)


def test_a_parked_message_dies_at_its_end(engine: Engine, store: Store, clock: Clock) -> None:
    elder = bury(store, engine, key="order:1")
    younger = put(engine, key="order:1", expires_at=clock.now + DAY)
    assert claim_all(store).claims == []
    clock.forward(DAY)
    assert swept(store).expired == 1
    died_unsent(engine, younger)
    assert row(engine, elder)["blocks"]


def test_a_message_of_a_held_destination_dies_at_its_end(engine: Engine, store: Store, clock: Clock) -> None:
    hold(store, "main", "ann", "their stocktaking")
    message_id = put(engine)
    clock.forward(8 * DAY)
    assert swept(store).expired == 1
    died_unsent(engine, message_id)


def test_a_message_of_an_unknown_destination_dies_at_its_end(
    engine: Engine, store: Store, clock: Clock
) -> None:
    message_id = put(engine, destination="closed-down")
    clock.forward(UNKNOWN_DESTINATION.max_age - DAY)
    assert swept(store).expired == 0
    clock.forward(DAY)
    assert swept(store).expired == 1
    died_unsent(engine, message_id)


def test_a_message_in_doubt_that_dies_of_age_has_a_letter_that_says_so(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put(engine)
    claim_one(store)
    clock.forward(2 * LEASE)
    swept(store)
    clock.forward(8 * DAY)
    assert swept(store).expired == 1
    assert rows(engine, dead_letter)[0]["in_doubt"] is True


def test_what_is_being_sent_is_not_ended(engine: Engine, store: Store, clock: Clock) -> None:
    message_id = put(engine, expires_at=clock.now + SECOND)
    claim_one(store)
    clock.forward(2 * SECOND)
    assert swept(store) == NOTHING
    assert row(engine, message_id)["state"] == "sending"


@pytest.mark.parametrize("verdict", [DELIVERED, REFUSED], ids=["delivered", "dead"])
def test_what_has_ended_does_not_end_again(engine: Engine, store: Store, clock: Clock, verdict: Any) -> None:
    message_id = put(engine)
    finish(store, verdict)
    before = row(engine, message_id)
    clock.forward(30 * DAY)
    assert swept(store) == NOTHING
    assert row(engine, message_id) == before


def test_a_message_claimed_since_it_was_found_too_old_is_left_to_its_engine(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put(engine)
    clock.forward(8 * DAY)
    with store.reading() as transaction:
        found = sweeping.past_their_end(transaction, Lifetimes({}, 7 * DAY, 0.8))
    claimed = claim_one(store)
    with store.writing() as transaction:
        assert sweeping.take_unsent(transaction, found) == []
    assert row(engine, claimed.id)["lease_token"] == claimed.token


def test_two_sweeps_at_once_do_each_thing_once(engine: Engine, clock: Clock) -> None:
    store = Store(engine, clock)
    for _ in range(20):
        put(engine)
    claim_all(store)
    doomed = [put(engine, expires_at=clock.now + SECOND) for _ in range(20)]
    clock.forward(2 * LEASE)
    both = threading.Barrier(2)
    results: list[Swept] = []

    def sweep_twice() -> None:
        mine = Store(another_connection(engine), clock)
        for _ in range(2):
            both.wait()
            results.append(swept(mine))
        mine.close()

    threads = [threading.Thread(target=sweep_twice) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(each.rescued for each in results), sum(each.expired for each in results)) == (20, 20)
    assert len(rows(engine, attempt)) == 20
    assert [each["message_id"] for each in rows(engine, dead_letter)] == doomed
    assert [each["occurrences"] for each in rows(engine, incident)] == [20]


@pytest.mark.parametrize("first", ["the sweep", "the result"])
def test_a_result_and_the_sweep_of_its_lease_that_meet_leave_one_outcome(
    engine: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    recording, sweeping_up = (Store(another_connection(engine), clock) for _ in range(2))
    message_id = put(engine)
    late = outcome(claim_one(recording), DELIVERED)
    record = partial(recorder(recording).record, [late])
    sweep = partial(swept, sweeping_up)
    clock.forward(2 * LEASE)
    with ThreadPoolExecutor(1) as thread:
        others: list[Future[object]] = []
        before, after, place = {
            "the sweep": (sweep, record, "worker.sweep.come_by"),
            "the result": (record, sweep, "worker.recorder.come_by"),
        }[first]

        def come_by(_here: Failpoint) -> None:
            """Have the other come while this transaction is open, and go on once that waits, or is done."""
            if not others:
                others.append(thread.submit(after))
                wait(others, 0.2)

        monkeypatch.setattr(place, come_by)
        before()
        others[0].result()
    made = row(engine, message_id)
    verdicts = [each["verdict"] for each in rows(engine, attempt)]
    assert (made["state"], made["rescues"], verdicts) == {
        "the sweep": ("pending", 1, ["rescued"]),
        "the result": ("delivered", 0, ["delivered"]),
    }[first]
    recording.close()
    sweeping_up.close()
