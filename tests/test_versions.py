"""Of messages that make each other obsolete the higher version counts, in whatever order they come."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, delete, select

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
    status_of,
)
from orderflow_outbox.tables import audit, message, term, unindexed, version_seen
from tests.statements import statements
from tests.steps import (
    ALERT_TIMES,
    DELIVERED,
    LATER,
    LEASE,
    REFUSED,
    Clock,
    claim_all,
    configuration,
    outcome,
    row,
)
from worker.by_hand import NotPossible, discard
from worker.indexer import index_some
from worker.looking import Looker
from worker.ports import announce_nothing
from worker.recorder import Recorder
from worker.replays.replaying import replay
from worker.store.transactions import Store
from worker.verdicts import Verdict

CATALOGUE = Catalogue(
    [
        *PREDEFINED.values(),
        Operation("price", "price.xml", None, "price", supersedes=("price", "discount")),
        Operation("discount", "discount.xml", None, "price"),
        Operation("label", "label.xml", None, "price", supersedes=("label",), when_dead=WhenDead.PASS),
    ]
)
KEY = "sku:A"


@pytest.fixture
def store(engine: Engine) -> Store:
    return Store(engine, Clock())


def put(engine: Engine, version: int | None = None, operation: str = "price", **others: Any) -> Message:
    with engine.begin() as connection:
        values = {"key": KEY, "catalogue": CATALOGUE, "version": version, **others}
        return enqueue(connection, operation, "<price/>", **values)


def states(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(select(message.c.state).order_by(message.c.id)))


def looked(store: Store) -> list[Any]:
    return Looker(store, LEASE, CATALOGUE.superseded_by).look({"main": 100}).claims


def sent(store: Store, verdict: Verdict) -> int:
    """Send the one message that is due; return its number."""
    (claim,) = looked(store)
    settings = replace(configuration(), catalogue=CATALOGUE)
    assert Recorder(store, settings, ALERT_TIMES, announce_nothing).record([outcome(claim, verdict)])
    return int(claim.id)


def test_a_lower_version_is_obsolete_on_arrival_while_a_higher_one_waits(
    engine: Engine, store: Store
) -> None:
    higher, late = put(engine, 8), put(engine, 7)
    assert (late.state, late.due_at) == (State.SUPERSEDED, None)
    ended = row(engine, late.id)
    assert (ended.state, ended.blocks, ended.due_at) == ("superseded", False, None)
    assert ended.finished_at is not None
    assert [each.id for each in looked(store)] == [higher.id]


def test_a_lower_version_is_obsolete_on_arrival_once_a_higher_one_was_delivered(
    engine: Engine, store: Store
) -> None:
    put(engine, 8)
    sent(store, DELIVERED)
    with engine.begin() as connection:
        connection.execute(delete(message))
    assert put(engine, 7).state is State.SUPERSEDED, "known for longer than the message is kept"
    assert put(engine, 8).state is State.PENDING, "the same version may say more"


@pytest.mark.parametrize("operation", ["price", "discount"])
def test_what_is_obsolete_on_arrival_makes_nothing_obsolete(
    engine: Engine, store: Store, operation: str
) -> None:
    """Given a message without a version that came after the highest one was delivered."""
    put(engine, 8)
    sent(store, DELIVERED)
    between = put(engine, operation=operation)
    assert put(engine, 7).state is State.SUPERSEDED
    assert row(engine, between.id).state == "pending"
    assert sent(store, DELIVERED) == between.id


def test_what_was_sent_in_vain_outruns_nothing(engine: Engine, store: Store) -> None:
    put(engine, 8)
    sent(store, LATER)
    with engine.connect() as connection:
        assert connection.execute(select(version_seen)).all() == []


@pytest.mark.parametrize(
    "late",
    [{"key": "sku:B"}, {"key": None}, {"destination": "other"}, {"operation": "label"}, {"version": None}],
    ids=str,
)
@pytest.mark.parametrize("delivered", [False, True])
def test_a_higher_version_leaves_alone_what_it_does_not_replace(
    engine: Engine, store: Store, late: dict[str, Any], delivered: bool
) -> None:
    put(engine, 8)
    if delivered:
        sent(store, DELIVERED)
    assert put(engine, **{"version": 7, **late}).state is State.PENDING


def test_an_operation_that_is_superseded_by_another_is_outrun_by_it(engine: Engine, store: Store) -> None:
    put(engine, 8)
    assert put(engine, 7, "discount").state is State.SUPERSEDED
    sent(store, DELIVERED)
    assert put(engine, 7, "discount").state is State.SUPERSEDED
    put(engine, 9, "discount")
    assert put(engine, 8).state is State.PENDING, "a discount makes no price obsolete"


def test_the_highest_version_delivered_is_kept_whatever_comes_after(engine: Engine, store: Store) -> None:
    put(engine, 8, "discount")
    sent(store, DELIVERED)
    put(engine, 5, "discount")
    sent(store, DELIVERED)
    with engine.connect() as connection:
        kept = connection.execute(select(version_seen)).one()
    assert tuple(kept) == ("main", "discount", KEY, 8)


@pytest.mark.parametrize("versions", [(3, 1, 2), (1, 2, 3), (2, 3, 1), (1, 3, 3)])
def test_of_many_in_one_call_the_highest_version_is_left(engine: Engine, versions: tuple[int, ...]) -> None:
    new = [NewMessage("price", "<price/>", key=KEY, version=each) for each in versions]
    with engine.begin() as connection:
        told = [each.state for each in enqueue_many(connection, new, catalogue=CATALOGUE)]
    assert told == states(engine)
    last_of_the_highest = len(versions) - 1 - versions[::-1].index(max(versions))
    assert [place for place, state in enumerate(told) if state == State.PENDING] == [last_of_the_highest]


def test_many_are_looked_at_by_few_statements(engine: Engine) -> None:
    new = [NewMessage("price", "<price/>", key=f"sku:{n}", version=1) for n in range(100)]
    with engine.begin() as connection, statements(connection) as run:
        enqueue_many(connection, new, catalogue=CATALOGUE)
    on_postgresql = engine.dialect.name == "postgresql"
    assert not on_postgresql or len([each for each in run if "outbox_version_seen" in each]) == 1


def test_a_message_without_a_version_asks_for_none(engine: Engine) -> None:
    with engine.begin() as connection, statements(connection) as run:
        enqueue(connection, "price", "<price/>", key=KEY, catalogue=CATALOGUE)
    assert not [each for each in run if "outbox_version_seen" in each]


def test_a_lower_version_whose_enqueue_saw_no_higher_one_ends_when_it_is_claimed(
    engine: Engine, store: Store
) -> None:
    """As where two shops enqueue at the same time, and neither sees the other's."""
    higher = put(engine, 8)
    lower = put(engine, 9)
    with engine.begin() as connection:
        connection.execute(message.update().where(message.c.id == lower.id).values(version=7))
        connection.execute(
            message.update()
            .where(message.c.id == higher.id)
            .values(state="pending", blocks=True, due_at=higher.due_at)
        )
    assert sent(store, DELIVERED) == higher.id
    assert looked(store) == []
    assert states(engine) == ["delivered", "superseded"]


def test_a_lower_version_in_flight_ends_when_its_attempt_fails_after_a_higher_one_came(
    engine: Engine, store: Store
) -> None:
    lower = put(engine, 7)
    (claim,) = looked(store)
    higher = put(engine, 8)
    settings = replace(configuration(), catalogue=CATALOGUE)
    assert Recorder(store, settings, ALERT_TIMES, announce_nothing).record([outcome(claim, LATER)])
    assert row(engine, lower.id).state == "superseded"
    assert [each.id for each in looked(store)] == [higher.id]


# Replays.


def test_a_replay_outrun_by_a_delivered_version_is_refused_unless_forced(
    engine: Engine, store: Store
) -> None:
    """Given a dead message of version 7, and version 8 delivered past it, whose message is kept no longer."""
    dead = put(engine, 7, "label").id
    sent(store, REFUSED)
    newer = put(engine, 8, "label").id
    sent(store, DELIVERED)
    with engine.begin() as connection:
        connection.execute(delete(message).where(message.c.id == newer))
    with pytest.raises(NotPossible, match=r"is obsolete: version 8 of its key was delivered"):
        replay(store, dead, "ann", "mended", catalogue=CATALOGUE)
    assert states(engine) == ["dead"], "nothing is half-written"

    forced = replay(store, dead, "ann", "it must be", catalogue=CATALOGUE, force=True)
    new = row(engine, forced.replay)
    assert (new.position, new.version, new.blocks) == (new.id, 8, True)
    assert sent(store, DELIVERED) == forced.replay
    with engine.connect() as connection:
        detail = connection.scalars(select(audit.c.detail)).one()
    assert detail == {"replay": forced.replay, "forced": "version 8 of its key was delivered"}


@pytest.mark.parametrize("newer", [7, None])
def test_a_replay_that_a_delivered_message_of_no_higher_version_replaced_can_be_forced(
    engine: Engine, store: Store, newer: int | None
) -> None:
    dead = put(engine, 7, "label").id
    sent(store, REFUSED)
    put(engine, newer, "label")
    sent(store, DELIVERED)
    forced = replay(store, dead, "ann", "it must be", catalogue=CATALOGUE, force=True)
    assert row(engine, forced.replay).version == 7
    assert sent(store, DELIVERED) == forced.replay


@pytest.mark.parametrize("indexed", [False, True])
def test_a_replay_of_what_a_delivered_message_replaced_is_refused_unless_forced(
    engine: Engine, store: Store, indexed: bool
) -> None:
    dead = put(engine, operation="label").id
    sent(store, REFUSED)
    newer = put(engine, operation="label").id
    sent(store, DELIVERED)
    if indexed:
        index_some(store)
    with pytest.raises(NotPossible, match=rf"message {newer}, which takes its place, is delivered"):
        replay(store, dead, "ann", "mended", catalogue=CATALOGUE)
    assert replay(store, dead, "ann", "it must be", catalogue=CATALOGUE, force=True).created
    assert states(engine) == ["dead", "delivered", "pending"]


def test_a_replay_of_what_a_waiting_message_replaces_is_refused_and_by_force_takes_its_place(
    engine: Engine, store: Store
) -> None:
    dead = put(engine).id
    sent(store, REFUSED)
    waiting = put(engine).id
    with pytest.raises(NotPossible, match=rf"message {waiting}, which takes its place, is pending"):
        replay(store, dead, "ann", "mended", catalogue=CATALOGUE)
    forced = replay(store, dead, "ann", "it must be", catalogue=CATALOGUE, force=True).replay
    assert looked(store) == [], "the one that waited is ended when it is met"
    assert sent(store, DELIVERED) == forced
    assert states(engine) == ["dead", "superseded", "delivered"]


def test_a_forced_replay_stays_the_latest_when_an_older_version_comes_late(
    engine: Engine, store: Store
) -> None:
    dead = put(engine, 5).id
    sent(store, REFUSED)
    put(engine, 6)
    forced = replay(store, dead, "ann", "it must be", catalogue=CATALOGUE, force=True).replay
    assert row(engine, forced).version == 6
    assert put(engine, 4).state is State.SUPERSEDED
    assert looked(store) == []
    assert sent(store, DELIVERED) == forced
    assert put(engine, 5).state is State.SUPERSEDED
    assert put(engine, 7).state is State.PENDING


def test_a_replay_of_what_was_replaced_by_a_replayed_message_is_refused(engine: Engine, store: Store) -> None:
    first = put(engine, operation="label").id
    sent(store, REFUSED)
    second = put(engine, operation="label").id
    sent(store, REFUSED)
    replayed = replay(store, second, "ann", "mended", catalogue=CATALOGUE).replay
    sent(store, DELIVERED)
    with pytest.raises(NotPossible, match=rf"message {replayed}, which takes its place, is delivered"):
        replay(store, first, "ann", "mended", catalogue=CATALOGUE)


@pytest.mark.parametrize(
    ("dead", "other"),
    [
        ({"operation": "label"}, {"operation": "label", "key": "sku:B"}),
        ({"operation": "label"}, {"operation": "price"}),
        ({"operation": "label", "key": None}, {"operation": "label", "key": None}),
        ({"operation": "label", "version": 8}, {"operation": "label", "version": 8, "key": "sku:B"}),
    ],
    ids=str,
)
def test_a_replay_that_nothing_replaces_keeps_its_place(
    engine: Engine, store: Store, dead: dict[str, Any], other: dict[str, Any]
) -> None:
    died = put(engine, **dead)
    sent(store, REFUSED)
    put(engine, **other)
    sent(store, DELIVERED)
    new = row(engine, replay(store, died.id, "ann", "mended", catalogue=CATALOGUE, force=True).replay)
    assert (new.position, new.version) == (died.id, died.version)


def test_a_later_one_that_is_dead_and_was_passed_replaces_nothing(engine: Engine, store: Store) -> None:
    first = put(engine, operation="label").id
    sent(store, REFUSED)
    second = put(engine, operation="label").id
    sent(store, REFUSED)
    discard(store, second, "ann", "wrong")
    assert replay(store, first, "ann", "mended", catalogue=CATALOGUE).created


@pytest.mark.parametrize("indexed", [False, True])
def test_a_replay_is_found_by_what_its_origin_is_found_by(
    engine: Engine, store: Store, indexed: bool
) -> None:
    dead = put(engine).id
    sent(store, REFUSED)
    if indexed:
        index_some(store)
    replayed = replay(store, dead, "ann", "mended", catalogue=CATALOGUE).replay
    sent(store, DELIVERED)
    index_some(store)
    with engine.connect() as connection:
        terms = connection.execute(select(term).order_by(term.c.message_id)).all()
        assert [tuple(each) for each in terms] == [("key", KEY, dead), ("key", KEY, replayed)]
        assert connection.execute(select(unindexed)).all() == []
        found = status_of(connection, key=KEY)
    assert found is not None
    assert (found.message_id, found.state) == (replayed, State.DELIVERED)


def test_claims_look_for_versions_of_operations_alone_that_something_replaces(
    engine: Engine, store: Store
) -> None:
    with engine.begin() as connection:
        enqueue(connection, "order-import", "<imports><import/></imports>", channel="w", key=KEY, version=1)
    assert len(claim_all(store).claims) == 1
