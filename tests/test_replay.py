"""Replay, discard, cancel, hold and resume: what people do, once each, and written down."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from orderflow_outbox.tables import audit, body, dead_letter, gate, incident, message
from tests.databases import on_postgresql_first, on_sqlite_first
from tests.documents import order
from tests.steps import (
    ALERT_TIMES,
    DAY,
    DELIVERED,
    REFUSED,
    SECOND,
    Clock,
    another_connection,
    bury,
    claim_all,
    claim_one,
    finish,
    outcome,
    put,
    recorder,
    row,
    rows,
    why,
)
from worker.by_hand import NotPossible, cancel, discard, hold, resume
from worker.replays.replaying import Replayed, replay
from worker.store import gates
from worker.store.transactions import Store


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


def again(store: Store, message_id: int) -> Replayed:
    return replay(store, message_id, "ann", "article added")


def everything(engine: Engine) -> list[Any]:
    return [rows(engine, table) for table in (message, dead_letter, incident, audit)]


def test_a_replay_is_a_new_message_linked_to_the_dead_one(engine: Engine, store: Store, clock: Clock) -> None:
    dead = bury(store, engine)
    replayed = again(store, dead)
    assert replayed == Replayed(dead, replayed.replay, created=True, state="pending")
    new = row(engine, replayed.replay)
    assert (new["replay_of"], new["state"], new["due_at"], new["created_at"]) == (
        dead,
        "pending",
        clock.now,
        clock.now,
    )
    assert (new["attempts"], new["tries"], new["rescues"]) == (0, 0, 0)
    assert row(engine, dead)["state"] == "dead"


@on_postgresql_first
def test_a_replay_has_the_bytes_and_the_identity_of_the_dead_one(engine: Engine, store: Store) -> None:
    document = order("SO-1").encode().replace(b"><", b">\r\n <")
    dead = bury(store, engine, payload=document, headers={"X-Trace": "7"}, idempotency_key="so-1", version=3)
    new = again(store, dead).replay
    kept = ("destination", "operation", "channel", "key", "version", "idempotency_key", "fingerprint")
    assert [row(engine, new)[name] for name in kept] == [row(engine, dead)[name] for name in kept]
    old_body, new_body = rows(engine, body)
    for name in ("payload", "sha256", "query", "headers"):
        assert new_body[name] == old_body[name]
    claimed = claim_one(store)
    assert (claimed.payload, claimed.idempotency_key) == (document, "so-1")


@on_sqlite_first
@pytest.mark.parametrize("in_doubt", [True, False])
def test_a_replay_inherits_the_doubt(engine: Engine, store: Store, in_doubt: bool) -> None:
    dead = put(engine)
    finish(store, REFUSED, in_doubt=in_doubt)
    assert row(engine, again(store, dead).replay)["in_doubt"] is in_doubt
    assert claim_one(store).in_doubt is in_doubt


def test_a_replay_takes_over_the_place_and_the_block_of_its_origin(engine: Engine, store: Store) -> None:
    dead = bury(store, engine, key="order:1")
    younger = put(engine, key="order:1")
    new = again(store, dead).replay
    assert (row(engine, dead)["blocks"], row(engine, new)["blocks"]) == (False, True)
    assert row(engine, new)["position"] == row(engine, dead)["position"]
    claimed = claim_one(store)
    assert claimed.id == new
    recorder(store).record([outcome(claimed, DELIVERED)])
    assert claim_one(store).id == younger


@on_postgresql_first
def test_a_replay_starts_its_largest_age_anew_and_keeps_an_end_still_to_come(
    engine: Engine, store: Store, clock: Clock
) -> None:
    ends = clock.now + DAY
    passed, to_come = (bury(store, engine, expires_at=ends), bury(store, engine, expires_at=ends + DAY))
    clock.forward(DAY + SECOND)
    assert row(engine, again(store, passed).replay)["expires_at"] is None
    assert row(engine, again(store, to_come).replay)["expires_at"] == ends + DAY


def test_replaying_twice_makes_one_replay(engine: Engine, store: Store) -> None:
    dead = bury(store, engine)
    first = again(store, dead)
    before = everything(engine)
    assert again(store, dead) == Replayed(dead, first.replay, created=False, state="pending")
    assert everything(engine) == before


def test_twenty_people_replaying_at_once_make_one_replay(engine: Engine, store: Store, clock: Clock) -> None:
    dead = [bury(store, engine) for _ in range(10)]
    people = 20
    all_of_them = threading.Barrier(people, timeout=20)
    results: list[list[Replayed]] = [[] for _ in range(people)]

    def replay_all(mine: list[Replayed]) -> None:
        own = Store(another_connection(engine), clock)
        for each in dead:
            all_of_them.wait()
            mine.append(again(own, each))
        own.close()

    threads = [threading.Thread(target=replay_all, args=(mine,)) for mine in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for of_one_letter in zip(*results, strict=True):
        assert len({each.replay for each in of_one_letter}) == 1
        assert sum(each.created for each in of_one_letter) == 1
    assert len(rows(engine, message)) == 2 * len(dead)
    assert len(rows(engine, audit)) == len(dead)


@on_postgresql_first
def test_only_the_dead_are_replayed(engine: Engine, store: Store) -> None:
    message_id = put(engine)
    with pytest.raises(NotPossible, match="is pending: only a dead message can be replayed"):
        again(store, message_id)
    claimed = claim_one(store)
    with pytest.raises(NotPossible, match="is sending"):
        again(store, message_id)
    recorder(store).record([outcome(claimed, DELIVERED)])
    with pytest.raises(NotPossible, match="is delivered"):
        again(store, message_id)
    with pytest.raises(NotPossible, match="there is no message 4711"):
        again(store, 4711)
    assert rows(engine, audit) == []
    assert len(rows(engine, message)) == 1


@on_sqlite_first
def test_a_replay_that_dies_is_replayed_itself(engine: Engine, store: Store) -> None:
    first = bury(store, engine, idempotency_key="so-1", key="order:1")
    second = again(store, first).replay
    finish(store, REFUSED)
    third = again(store, second).replay
    assert [row(engine, each)["replay_of"] for each in (second, third)] == [first, second]
    assert again(store, first).replay == second
    finish(store, DELIVERED)
    assert [row(engine, each)["state"] for each in (first, second, third)] == ["dead", "dead", "delivered"]
    assert {row(engine, each)["idempotency_key"] for each in (first, second, third)} == {"so-1"}


def test_a_discarded_message_lets_its_key_go_on(engine: Engine, store: Store, clock: Clock) -> None:
    dead = bury(store, engine, key="order:1")
    younger = put(engine, key="order:1")
    assert claim_all(store).claims == []
    discard(store, dead, "ann", "the customer cancelled")
    assert row(engine, younger)["due_at"] == clock.now
    assert claim_one(store).id == younger
    assert (row(engine, dead)["state"], row(engine, dead)["blocks"]) == ("dead", False)


@on_sqlite_first
def test_what_was_discarded_is_neither_replayed_nor_discarded_again(engine: Engine, store: Store) -> None:
    dead = bury(store, engine)
    discard(store, dead, "ann", "the customer cancelled")
    before = everything(engine)
    with pytest.raises(NotPossible, match="was discarded"):
        again(store, dead)
    with pytest.raises(NotPossible, match="was discarded already"):
        discard(store, dead, "ann", "once more")
    assert everything(engine) == before


@on_sqlite_first
def test_what_was_replayed_is_not_discarded(engine: Engine, store: Store) -> None:
    dead = bury(store, engine)
    again(store, dead)
    with pytest.raises(NotPossible, match="was replayed already"):
        discard(store, dead, "ann", "no longer wanted")


@on_postgresql_first
def test_only_the_dead_are_discarded(engine: Engine, store: Store) -> None:
    with pytest.raises(NotPossible, match="only a dead message can be discarded"):
        discard(store, put(engine), "ann", "no longer wanted")


@on_sqlite_first
def test_a_waiting_message_is_cancelled(engine: Engine, store: Store, clock: Clock) -> None:
    message_id = put(engine)
    cancel(store, message_id, "ann", "ordered by mistake")
    after = row(engine, message_id)
    assert (after["state"], after["due_at"], after["finished_at"]) == ("cancelled", None, clock.now)
    assert claim_all(store).claims == []


def test_cancelling_lets_the_key_go_on(engine: Engine, store: Store) -> None:
    elder = put(engine, key="order:1", deliver_after=Clock().now + DAY)
    younger = put(engine, key="order:1")
    assert claim_all(store).claims == []
    cancel(store, elder, "ann", "ordered by mistake")
    assert claim_one(store).id == younger


@on_sqlite_first
def test_a_parked_message_can_be_cancelled(engine: Engine, store: Store) -> None:
    bury(store, engine, key="order:1")
    younger = put(engine, key="order:1")
    assert claim_all(store).claims == []
    cancel(store, younger, "ann", "ordered by mistake")
    assert row(engine, younger)["state"] == "cancelled"


@on_sqlite_first
def test_only_what_waits_is_cancelled(engine: Engine, store: Store) -> None:
    message_id = put(engine)
    claimed = claim_one(store)
    with pytest.raises(NotPossible, match="being sent right now"):
        cancel(store, message_id, "ann", "too late")
    recorder(store).record([outcome(claimed, DELIVERED)])
    with pytest.raises(NotPossible, match="delivered already"):
        cancel(store, message_id, "ann", "too late")
    with pytest.raises(NotPossible, match="there is no message 4711"):
        cancel(store, 4711, "ann", "too late")
    assert row(engine, message_id)["state"] == "delivered"
    assert rows(engine, audit) == []


@on_sqlite_first
def test_who_did_what_when_and_why_is_written_down(engine: Engine, store: Store, clock: Clock) -> None:
    first, second = bury(store, engine), bury(store, engine)
    third = put(engine)
    new = replay(store, first, "ann", "article added").replay
    clock.forward(timedelta(minutes=1))
    discard(store, second, "bob", "test order")
    cancel(store, third, "cid", "ordered by mistake")
    hold(store, "main", "dan", "their night")
    resume(store, "main", "eve", "morning")
    begun = clock.now - timedelta(minutes=1)
    told = [
        (each["at"], each["by"], each["verb"], each["why"], each["message_id"], each["destination"])
        for each in rows(engine, audit)
    ]
    assert told == [
        (begun, "ann", "replay", "article added", first, None),
        (clock.now, "bob", "discard", "test order", second, None),
        (clock.now, "cid", "cancel", "ordered by mistake", third, None),
        (clock.now, "dan", "hold", "their night", None, "main"),
        (clock.now, "eve", "resume", "morning", None, "main"),
    ]
    assert rows(engine, audit)[0]["detail"] == {"replay": new}
    letters = [
        (each["resolution"], each["resolved_by"], each["note"], each["resolved_at"])
        for each in rows(engine, dead_letter)
    ]
    assert letters == [
        ("replayed", "ann", "article added", begun),
        ("discarded", "bob", "test order", clock.now),
    ]


def test_an_incident_is_resolved_with_its_last_letter(engine: Engine, store: Store, clock: Clock) -> None:
    first, second = bury(store, engine), bury(store, engine)
    other = bury(store, engine, reason="not_understood")
    again(store, first)
    assert [each["resolved_at"] for each in rows(engine, incident)] == [None, None]
    discard(store, second, "ann", "test order")
    assert [each["resolved_at"] for each in rows(engine, incident)] == [clock.now, None]
    again(store, other)
    assert [each["resolved_at"] for each in rows(engine, incident)] == [clock.now, clock.now]


@on_sqlite_first
def test_a_death_after_its_incident_was_resolved_opens_a_new_one(engine: Engine, store: Store) -> None:
    again(store, bury(store, engine))
    finish(store, REFUSED)
    assert [(each["resolved_at"] is None, each["occurrences"]) for each in rows(engine, incident)] == [
        (False, 1),
        (True, 1),
    ]


@on_sqlite_first
def test_resuming_resolves_the_incident_of_the_hold(engine: Engine, store: Store, clock: Clock) -> None:
    with store.writing() as transaction:
        gates.hold(transaction, "main", why("http_401"), "the service", ALERT_TIMES)
    assert resume(store, "main", "ann", "password renewed").is_held
    assert [each["resolved_at"] for each in rows(engine, incident)] == [clock.now]
    assert [(each["state"], each["refusals_in_a_row"]) for each in rows(engine, gate)] == [("open", 0)]
    assert not resume(store, "main", "ann", "to be sure").is_held
