"""`status_of`: how a message stands, in words a shop can show, by any of the keys it has."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from orderflow_outbox import InvalidQuestion, NotASession, State, Status, enqueue, status_of
from tests.documents import order
from tests.steps import (
    DELIVERED,
    LATER,
    REFUSED,
    SECOND,
    Clock,
    bury,
    claim_all,
    finish,
    outcome,
    put,
    recorder,
    row,
    set_row,
)
from worker.by_hand import cancel, discard, hold, resume
from worker.replays.replaying import replay
from worker.store.transactions import Store


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


def asked(engine: Engine, message_id: int | None = None, **how: Any) -> Status:
    with Session(engine) as session:
        found = status_of(session, message_id, **how)
    assert found is not None
    return found


def test_a_message_just_enqueued_is_about_to_be_sent(engine: Engine) -> None:
    found = asked(engine, put(engine, key="order:1"))
    assert (found.state, found.reason) == (State.PENDING, "it is about to be sent")
    assert found.next_try_at is not None
    assert abs(found.next_try_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert (found.attempts, found.in_doubt, found.key, found.finished_at) == (0, False, "order:1", None)


def test_a_message_for_later_says_when(engine: Engine) -> None:
    later = datetime.now(UTC) + timedelta(hours=2)
    found = asked(engine, put(engine, deliver_after=later))
    assert (found.reason, found.next_try_at) == ("it is not to be sent yet", later)


def test_a_failed_attempt_says_why_and_when_the_next_one_is(
    engine: Engine, store: Store, clock: Clock
) -> None:
    message_id = put(engine)
    finish(store, LATER)
    found = asked(engine, message_id)
    assert found.reason == "attempt 1 failed and it is tried again: as the reply said"
    assert found.next_try_at == row(engine, message_id)["due_at"]
    assert found.next_try_at is not None
    assert found.next_try_at > clock.now


def test_what_a_stop_gave_back_is_about_to_be_sent(engine: Engine, store: Store) -> None:
    message_id = put(engine)
    (claimed,) = claim_all(store).claims
    assert recorder(store).record([outcome(claimed, None)])
    set_row(engine, message_id, due_at=datetime.now(UTC) - SECOND)
    assert asked(engine, message_id).reason == "it is about to be sent"


def test_a_message_being_sent_has_no_next_try(engine: Engine, store: Store) -> None:
    message_id = put(engine)
    claim_all(store)
    found = asked(engine, message_id)
    assert (found.state, found.reason, found.next_try_at) == (State.SENDING, "it is being sent", None)


def test_a_parked_message_names_the_one_it_waits_for(engine: Engine, store: Store) -> None:
    elder, younger = (put(engine, key="order:1") for _ in range(2))
    claim_all(store)
    found = asked(engine, younger)
    assert found.reason == f"it waits for message {elder}, an earlier one of its key"
    assert found.next_try_at is None


def test_a_held_destination_is_the_reason_and_there_is_no_next_try(engine: Engine, store: Store) -> None:
    message_id = put(engine)
    hold(store, "main", "ann", "OrderFlow moves house")
    found = asked(engine, message_id)
    assert found.reason == "nothing is sent to main at present: OrderFlow moves house"
    assert found.next_try_at is None
    resume(store, "main", "ann", "it has moved")
    assert asked(engine, message_id).next_try_at is not None


def test_a_destination_that_is_left_alone_is_the_reason_and_its_probe_the_next_try(
    engine: Engine, store: Store, clock: Clock
) -> None:
    for _ in range(5):
        put(engine)
    assert recorder(store).record([outcome(each, LATER) for each in claim_all(store).claims])
    found = asked(engine, put(engine))
    words = "main fails at present, and is only tried from time to time: as the reply said"
    assert (found.reason, found.next_try_at) == (words, clock.now + timedelta(seconds=5))


def test_a_pause_that_the_destination_asked_for_is_the_reason(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put(engine)
    asks = replace(LATER, not_before=timedelta(minutes=10))
    assert recorder(store).record([outcome(each, asks) for each in claim_all(store).claims])
    found = asked(engine, put(engine))
    assert (found.reason, found.next_try_at) == (
        "main has asked for a pause",
        clock.now + timedelta(minutes=10),
    )


def test_a_delivered_message_says_when_it_was(engine: Engine, store: Store, clock: Clock) -> None:
    message_id = put(engine)
    finish(store, DELIVERED)
    found = asked(engine, message_id)
    assert (found.state, found.reason, found.attempts) == (State.DELIVERED, "it was delivered", 1)
    assert (found.next_try_at, found.finished_at) == (None, clock.now)


def test_a_dead_message_says_what_orderflow_said(engine: Engine, store: Store) -> None:
    message_id = bury(store, engine)
    found = asked(engine, message_id)
    assert found.state is State.DEAD
    assert found.reason == "it could not be delivered, a person is told: bad article"


def test_a_dead_message_in_doubt_says_so(engine: Engine, store: Store) -> None:
    message_id = put(engine)
    finish(store, REFUSED, in_doubt=True)
    found = asked(engine, message_id)
    assert found.in_doubt
    assert found.reason.endswith("; whether OrderFlow carried it out is not known")


def test_a_letter_given_up_says_why(engine: Engine, store: Store) -> None:
    message_id = bury(store, engine)
    discard(store, message_id, "ann", "the customer went away")
    assert asked(engine, message_id).reason == "it was given up: the customer went away"


def test_a_cancelled_message_says_why(engine: Engine, store: Store) -> None:
    message_id = put(engine)
    cancel(store, message_id, "ann", "no longer wanted")
    found = asked(engine, message_id)
    assert (found.state, found.reason) == (State.CANCELLED, "it was cancelled: no longer wanted")


def test_a_superseded_message_says_so(engine: Engine) -> None:
    message_id = put(engine)
    set_row(engine, message_id, state="superseded", due_at=None, blocks=False)
    assert asked(engine, message_id).reason == "a later message made it obsolete"


def test_a_replayed_message_stands_as_its_last_replay(engine: Engine, store: Store) -> None:
    first = bury(store, engine, idempotency_key="SO-1")
    second = replay(store, first, "ann", "known now").replay
    for how in ({"message_id": first}, {"idempotency_key": "SO-1"}):
        found = asked(engine, **how)  # type: ignore[arg-type]
        assert (found.message_id, found.state) == (second, State.PENDING)


def test_the_idempotency_key_and_the_key_are_looked_for_at_their_destination(engine: Engine) -> None:
    elsewhere = put(engine, key="order:1", idempotency_key="SO-1", destination="elsewhere")
    here = put(engine, key="order:1", idempotency_key="SO-1")
    for how in ({"key": "order:1"}, {"idempotency_key": "SO-1"}):
        assert asked(engine, **how).message_id == here
        assert asked(engine, **how, destination="elsewhere").message_id == elsewhere


def test_of_a_key_the_message_in_front_counts_and_when_all_are_done_the_last(
    engine: Engine, store: Store
) -> None:
    first, second = (put(engine, key="order:1") for _ in range(2))
    assert asked(engine, key="order:1").message_id == first
    finish(store, DELIVERED)
    assert asked(engine, key="order:1").message_id == second
    finish(store, DELIVERED)
    assert asked(engine, key="order:1").message_id == second
    assert asked(engine, key="order:1").state is State.DELIVERED


def test_a_dead_message_that_holds_others_up_is_in_front(engine: Engine, store: Store) -> None:
    dead = bury(store, engine, key="order:1")
    put(engine, key="order:1")
    assert asked(engine, key="order:1").message_id == dead


def test_what_is_not_there_has_no_status(engine: Engine) -> None:
    with engine.connect() as connection:
        assert status_of(connection, 4711) is None
        assert status_of(connection, idempotency_key="none") is None
        assert status_of(connection, key="none") is None


def test_a_message_of_this_very_transaction_has_a_status(engine: Engine) -> None:
    with engine.begin() as connection:
        stored = enqueue(connection, "order-import", order("SO-1"), channel="web", key="order:SO-1")
        found = status_of(connection, key="order:SO-1")
        assert found is not None
        assert found.message_id == stored.id


@pytest.mark.parametrize(
    "how", [{}, {"message_id": 1, "key": "order:1"}, {"key": "a", "idempotency_key": "b"}]
)
def test_exactly_one_key_is_asked_by(engine: Engine, how: dict[str, Any]) -> None:
    with (
        engine.connect() as connection,
        pytest.raises(InvalidQuestion, match="give one of message_id, idempotency_key, key"),
    ):
        status_of(connection, **how)


def test_a_status_is_asked_of_a_session() -> None:
    with pytest.raises(NotASession):
        status_of("session", 1)  # type: ignore[arg-type]


def test_asking_writes_nothing(engine: Engine, store: Store) -> None:
    message_id = bury(store, engine, key="order:1")
    said: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _k, statement, *_: said.append(statement))
    asked(engine, message_id)
    asked(engine, key="order:1")
    assert said
    assert all(each.startswith(("SELECT", "BEGIN")) for each in said)
