"""What has been kept for long enough goes, whole and for good; nothing else ever does."""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Table, event, func, select, update

from config import RetentionSettings
from orderflow_outbox import PREDEFINED, NewMessage, enqueue, enqueue_many
from orderflow_outbox.tables import (
    attempt,
    audit,
    body,
    dead_letter,
    edit,
    full_text,
    incident,
    item,
    message,
    metadata,
    replay_run,
    replay_run_member,
    term,
    unindexed,
    unindexed_text,
    version_seen,
)
from tests.databases import on_postgresql, on_sqlite, on_sqlite_first
from tests.documents import order
from tests.rig import Place, engine_of, eventually, rig
from tests.shell import Shell
from tests.steps import (
    DAY,
    DELIVERED,
    REFUSED,
    SECOND,
    Clock,
    another_connection,
    bury,
    claim_all,
    claim_one,
    configuration,
    finish,
    outcome,
    put,
    recorder,
    row,
    rows,
    set_row,
)
from worker import purge
from worker.by_hand import cancel, discard
from worker.erase import erase, note_erasure
from worker.indexer import index_some
from worker.personal_data import PersonalData
from worker.purge import Purger, is_over, pause_after, what_would_go
from worker.replays import runs
from worker.replays.driving import drive
from worker.replays.editing import Editor
from worker.replays.replaying import replay
from worker.replays.run import Care, RunState
from worker.schemas import Schemas
from worker.store import purging
from worker.store.finding import Filter
from worker.store.purging import Kept
from worker.store.transactions import Store, database_clock
from worker.verdicts import ItemResult

KEEP = RetentionSettings()
OF_A_MESSAGE = (
    item,
    attempt,
    dead_letter,
    term,
    unindexed,
    unindexed_text,
    body,
    edit,
    replay_run_member,
)
LONG = 1000 * DAY


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


def purged(store: Store, keep: RetentionSettings = KEEP) -> dict[str, int]:
    purger = Purger(store, keep)
    while purger.purge_some():
        pass
    return {kind: count for kind, count in purger.gone.items() if count}


def left(engine: Engine) -> list[int]:
    return [each["id"] for each in rows(engine, message)]


def whose(engine: Engine, table: Table) -> set[int]:
    return {each["message_id"] for each in rows(engine, table)}


def ended(engine: Engine, store: Store, state: str, **others: Any) -> int:
    """Bring a message to an end; return its number."""
    if state == "dead":
        message_id = bury(store, engine, **others)
        discard(store, message_id, "ann", "a test")
    elif state == "delivered":
        message_id = put(engine, **others)
        finish(store, DELIVERED)
    elif state == "cancelled":
        message_id = put(engine, **others)
        cancel(store, message_id, "ann", "a test")
    else:
        message_id = put(engine, **others)
        set_row(engine, message_id, state=state, due_at=None, blocks=False, finished_at=func.now())
    return message_id


def test_what_ended_is_kept_for_its_time_and_then_goes(engine: Engine, store: Store, clock: Clock) -> None:
    states = ("delivered", "superseded", "cancelled", "dead")
    by_state = {state: ended(engine, store, state) for state in states}
    clock.forward(30 * DAY - timedelta(minutes=2))
    assert purged(store) == {}
    clock.forward(timedelta(minutes=3))
    for state in states:
        nothing = RetentionSettings(**{each: "never" for each in states if each != state})
        assert purged(store, nothing) == ({} if state == "dead" else {state: 1})
    assert left(engine) == [by_state["dead"]]
    clock.forward(150 * DAY - timedelta(minutes=2))
    assert purged(store) == {}
    clock.forward(timedelta(minutes=3))
    assert purged(store) == {"dead": 1}
    assert left(engine) == []


def test_a_message_goes_with_all_that_is_stored_of_it_and_leaves_the_others(
    engine: Engine, store: Store, clock: Clock
) -> None:
    first, second = put(engine, key="order:1"), put(engine, key="order:2", version=3)
    while index_some(store):
        pass
    results = (ItemResult(1, "SO-1", REFUSED),)
    made = [outcome(each, REFUSED, items=results) for each in claim_all(store).claims]
    assert recorder(store).record(made)
    third = put(engine, key="order:3")  # neither sent nor indexed
    cancel(store, third, "ann", "a test")
    discard(store, first, "ann", "a test")
    clock.forward(LONG)
    assert whose(engine, item) == {first, second}
    assert whose(engine, unindexed) == {third}
    assert purged(store) == {"dead": 1, "cancelled": 1, "audit": 2}
    assert left(engine) == [second]
    for table in (*OF_A_MESSAGE, audit):
        assert whose(engine, table) <= {second}, table.name
    assert whose(engine, dead_letter) == whose(engine, attempt) == whose(engine, item) == {second}
    assert rows(engine, incident), "it is kept with the letter that belongs to it"


def test_every_table_that_names_a_message_is_looked_through() -> None:
    named = {table for table in metadata.tables.values() if "message_id" in table.c}
    assert named - {audit} == set(OF_A_MESSAGE)


def test_an_edit_and_a_run_go_with_the_messages_they_are_of(
    engine: Engine, store: Store, clock: Clock
) -> None:
    dead = [bury(store, engine, payload=order(f"SO-{n}"), idempotency_key=f"so-{n}") for n in (1, 2)]
    editor = Editor(PREDEFINED, Schemas({}))
    edited = editor.replay(store, dead[0], order("SO-1", sku="SKU-2").encode(), "ann", "renamed").replay
    run = runs.begin(store, Filter(ids=dead[1:]), Care(), "ann", "known now", configuration())
    while drive(store, PREDEFINED).more:
        pass
    assert recorder(store).record([outcome(each, DELIVERED) for each in claim_all(store).claims])
    while drive(store, PREDEFINED).more:
        pass
    assert runs.find(store, run.id).state is RunState.FINISHED
    while index_some(store):
        pass
    assert whose(engine, edit) == {edited}
    assert rows(engine, full_text)
    clock.forward(LONG)
    gone = purged(store)
    assert (gone["dead"], gone["delivered"], gone["replay_runs"]) == (2, 2, 1)
    for table in (*OF_A_MESSAGE, full_text, replay_run):
        assert rows(engine, table) == [], table.name


def test_what_has_not_ended_never_goes(engine: Engine, store: Store, clock: Clock) -> None:
    bury(store, engine)
    put(engine)
    claim_one(store)
    put(engine)
    clock.forward(LONG)
    assert purged(store) == {}
    before = rows(engine, message)
    assert {each["state"] for each in before} == {"dead", "sending", "pending"}
    believed = [[Kept(each["id"], "delivered", None, clock.now, clock.now)] for each in before]
    with store.writing() as transaction:
        assert purging.purge(transaction, believed) == [], "whatever they are believed to be"
    assert rows(engine, message) == before


@on_sqlite
def test_one_that_is_young_hides_none_that_are_old(engine: Engine, store: Store, clock: Clock) -> None:
    young = put(engine)  # as after a jump of the clock
    finish(store, DELIVERED)
    ended(engine, store, "delivered")
    clock.forward(31 * DAY)
    set_row(engine, young, created_at=clock.now, finished_at=clock.now)
    assert purged(store) == {"delivered": 1}
    assert left(engine) == [young]


def test_a_dead_message_and_its_replays_go_together_once_the_last_is_over(
    engine: Engine, store: Store, clock: Clock
) -> None:
    first = bury(store, engine, idempotency_key="so-1", payload=order("SO-1"))
    second = replay(store, first, "ann", "mended").replay
    finish(store, REFUSED)
    clock.forward(LONG)
    assert purged(store) == {"audit": 1}, "the letter of the replay is open"
    third = replay(store, second, "ann", "mended").replay
    clock.forward(LONG)
    assert purged(store) == {"audit": 1}
    assert left(engine) == [first, second, third], "the last one waits"
    finish(store, DELIVERED)
    clock.forward(29 * DAY)
    assert purged(store) == {}, "what is replayed is kept as long as its replay"
    clock.forward(2 * DAY)
    assert purged(store) == {"dead": 2, "delivered": 1}
    assert left(engine) == []


@on_sqlite_first
def test_while_a_replay_lives_its_identity_is_taken(engine: Engine, store: Store, clock: Clock) -> None:
    of_it = {"idempotency_key": "so-1", "payload": order("SO-1")}
    first = bury(store, engine, **of_it)
    replay(store, first, "ann", "mended")
    clock.forward(LONG)
    purged(store)
    assert put(engine, **of_it) == first
    finish(store, DELIVERED)
    clock.forward(LONG)
    purged(store)
    assert put(engine, **of_it) > first, "retention is the window in which nothing is sent twice"


@on_sqlite_first
def test_a_child_stands_by_itself(engine: Engine, store: Store, clock: Clock) -> None:
    parent = put(engine, payload=order("SO-1", "SO-2"), idempotency_key="two")
    judged = (ItemResult(1, "SO-1", DELIVERED), ItemResult(2, "SO-2", REFUSED))
    finish(store, DELIVERED, items=judged)
    (child,) = (each for each in left(engine) if each != parent)
    clock.forward(LONG)
    assert purged(store) == {"delivered": 1}
    assert left(engine) == [child], "its letter is open"
    assert row(engine, child)["split_from"] == parent


@on_sqlite_first
def test_the_versions_delivered_are_known_for_longer_than_their_messages(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put(engine, key="order:1", version=7)
    finish(store, DELIVERED)
    clock.forward(LONG)
    assert purged(store) == {"delivered": 1}
    assert [each["version"] for each in rows(engine, version_seen)] == [7]


@on_sqlite_first
def test_audit_and_incidents_go_by_their_own_age(engine: Engine, store: Store, clock: Clock) -> None:
    ended(engine, store, "dead")
    clock.forward(LONG / 2)
    ended(engine, store, "cancelled")
    assert purged(store, RetentionSettings(dead="never", cancelled="never")) == {}
    clock.forward(LONG / 2)
    assert purged(store, RetentionSettings(dead="never", cancelled="never")) == {"audit": 1}
    assert [each["verb"] for each in rows(engine, audit)] == ["cancel"]
    cancelled = left(engine)[-1]
    set_row(engine, cancelled, finished_at=clock.now)
    assert purged(store, RetentionSettings(cancelled="never")) == {"dead": 1}, "its alert is still to come"
    with engine.begin() as connection:
        connection.execute(update(incident).values(alert_due_at=None))
    assert purged(store) == {"incidents": 1}
    assert rows(engine, incident) == []


@on_sqlite_first
def test_that_a_message_was_erased_is_known_for_as_long_as_it_is_kept(
    engine: Engine, store: Store, clock: Clock
) -> None:
    message_id = ended(engine, store, "delivered")
    told = ["externalReference=SO-1"]
    assert erase(store, message_id, told, PersonalData(()), "ann", "asked for it")
    note_erasure(store, told, "ann", "asked for it", 1, 0)
    clock.forward(LONG)
    keep = RetentionSettings(delivered="never")
    assert sum(what_would_go(store, keep), Counter()) == {"audit": 1}
    assert purged(store, keep) == {"audit": 1}
    assert not erase(store, message_id, told, PersonalData(()), "ann", "again"), "it was before"
    assert purged(store) == {"delivered": 1, "audit": 1}


@on_sqlite_first
def test_an_incident_that_is_not_over_stays(engine: Engine, store: Store, clock: Clock) -> None:
    message_id = bury(store, engine)
    with engine.begin() as connection:  # as if the letter were gone
        connection.execute(dead_letter.delete().where(dead_letter.c.message_id == message_id))
    clock.forward(LONG)
    purged(store)
    assert len(rows(engine, incident)) == 1


@on_sqlite_first
def test_a_round_passes_over_what_is_kept_and_finds_what_comes_after_it(
    engine: Engine, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "PAGE", 3)
    monkeypatch.setattr(purging, "_page", purging._page.limit(3))
    monkeypatch.setattr(purge, "BATCH", 2)
    waiting = [put(engine, deliver_after=clock.now + LONG) for _ in range(4)]
    gone = [ended(engine, store, "cancelled") for _ in range(5)]
    clock.forward(31 * DAY)
    young = ended(engine, store, "delivered")
    set_row(engine, young, created_at=clock.now, finished_at=clock.now)
    purger, steps = Purger(store, KEEP), 1
    while purger.purge_some():
        steps += 1
    assert purger.gone == {"cancelled": len(gone)}
    assert steps >= 4
    assert left(engine) == [*waiting, young]
    assert not purger.purge_some(), "the round is over"
    set_row(engine, waiting[0], state="cancelled", blocks=False, finished_at=clock.now - 31 * DAY)
    assert not purger.purge_some()
    purger.begin_again()
    purger.purge_some()
    assert left(engine) == [*waiting[1:], young], "the next one begins with the first message"


@on_sqlite_first
def test_a_batch_is_bounded_in_messages_and_in_bytes(
    engine: Engine, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [ended(engine, store, "cancelled") for _ in range(6)]
    clock.forward(LONG)
    monkeypatch.setattr(purge, "BATCH", 4)
    purger = Purger(store, KEEP)
    assert purger.purge_some()
    assert left(engine) == ids[4:]
    monkeypatch.setattr(purge, "BATCH_BYTES", 1)
    assert purger.purge_some()
    assert left(engine) == ids[5:], "one that is too large by itself goes by itself"


@on_sqlite_first
def test_what_is_cut_short_leaves_whole_messages(engine: Engine, store: Store, clock: Clock) -> None:
    ended(engine, store, "dead", key="order:1")
    clock.forward(LONG)
    before = {table.name: rows(engine, table) for table in metadata.sorted_tables}

    def fail(_c: object, _k: object, statement: str, *_: object) -> None:
        if statement.startswith(f"DELETE FROM {message.name} "):
            raise ZeroDivisionError

    event.listen(engine, "before_cursor_execute", fail)
    with pytest.raises(ZeroDivisionError):
        purged(store)
    event.remove(engine, "before_cursor_execute", fail)
    assert {table.name: rows(engine, table) for table in metadata.sorted_tables} == before
    assert purged(store)["dead"] == 1


def test_many_that_purge_at_once_purge_each_message_once(engine: Engine, store: Store, clock: Clock) -> None:
    for _ in range(60):
        put(engine)
    assert recorder(store).record([outcome(each, DELIVERED) for each in claim_all(store).claims])
    clock.forward(31 * DAY)
    with ThreadPoolExecutor(4) as threads:
        counts = list(threads.map(lambda _: purged(store).get("delivered", 0), range(4)))
    assert sum(counts) == 60
    assert left(engine) == []


@on_postgresql
def test_what_another_has_in_hand_is_not_waited_for(engine: Engine, clock: Clock) -> None:
    def bounded(connection: Connection) -> datetime:
        database_clock(connection)  # no statement waits for ever
        return clock.now

    store = Store(engine, bounded)
    first = bury(store, engine)
    second = replay(store, first, "ann", "mended").replay
    finish(store, DELIVERED)
    third = ended(engine, store, "delivered")
    clock.forward(LONG)
    with engine.begin() as other:
        other.execute(select(message).where(message.c.id == second).with_for_update())
        assert purged(store)["delivered"] == 1
        assert left(engine) == [first, second], "half a family does not go"
    assert purged(store) == {"dead": 1, "delivered": 1}
    assert third not in left(engine)


@on_postgresql
@pytest.mark.parametrize("at_once", [1, 2])
def test_what_is_purged_while_it_is_enqueued_again_is_a_new_message(
    engine: Engine, store: Store, clock: Clock, at_once: int
) -> None:
    of_it = {"idempotency_key": "so-1", "payload": order("SO-1")}
    first = ended(engine, store, "delivered", **of_it)
    clock.forward(LONG)
    shop = another_connection(engine)

    def come_between(_c: object, _k: object, statement: str, *_: object) -> None:
        if "fingerprint" in statement and statement.startswith("SELECT"):
            purged(store)

    event.listen(shop, "before_cursor_execute", come_between)
    new = [NewMessage("order-import", order("SO-1"), channel="SHOP", idempotency_key="so-1")]
    new += [NewMessage("order-import", order(f"SO-{n}"), channel="SHOP") for n in range(1, at_once)]
    with shop.begin() as connection:
        if at_once == 1:
            stored = [
                enqueue(connection, "order-import", order("SO-1"), channel="SHOP", idempotency_key="so-1")
            ]
        else:
            stored = enqueue_many(connection, new)
    shop.dispose()
    assert all(each.created for each in stored)
    assert left(engine) == sorted(each.id for each in stored)
    assert first not in left(engine)


@on_sqlite
def test_with_nothing_to_purge_nobody_is_kept_waiting(engine: Engine, store: Store) -> None:
    put(engine)
    finish(store, DELIVERED)
    with engine.begin():  # holds the write lock
        assert purged(store) == {}


def test_an_engine_purges_by_itself_and_tells_it_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "worker.purge")
    with rig(place) as made:
        old = [made.order(f"SO-{n}").id for n in range(3)]
        moment = rows(made.engine, message)[0]["created_at"] - 31 * DAY
        with made.engine.begin() as connection:
            connection.execute(
                update(message).values(
                    state="cancelled", blocks=False, due_at=None, created_at=moment, finished_at=moment
                )
            )
        new = made.order("SO-new").id
        with engine_of(made):
            eventually(lambda: not {*old} & {each.id for each in made.rows()})
            eventually(lambda: made.states() == {"delivered"})
            eventually(lambda: caplog.records)  # it is told after it is done
        assert [each.id for each in made.rows()] == [new]
    told = [each.getMessage() for each in caplog.records]
    assert told == ["purged, as kept for long enough: 3 cancelled"]


def test_the_log_is_told_once_a_day() -> None:
    now = 0.0
    teller = purge.Teller(lambda: now)
    gone = purge.Counter({"delivered": 2})
    teller.tell(gone)
    assert not gone
    gone["delivered"] += 5
    now = purge.TOLD_SECONDS - 1
    teller.tell(gone)
    assert gone == {"delivered": 5}, "they are told with those of the rest of the day"
    now = purge.TOLD_SECONDS
    teller.tell(gone)
    assert not gone


def test_the_purge_takes_its_share_and_rests_after_a_round() -> None:
    for busy, share in ((True, purge.SHARE_WHILE_BUSY), (False, purge.SHARE)):
        pause = pause_after(0.01, more=True, busy=busy)
        assert 0.01 / (0.01 + pause) == pytest.approx(share), "of all the time"
    assert pause_after(0.01, more=False, busy=False) == purge.ROUND_SECONDS


def test_a_dead_message_is_kept_from_its_resolution_on(clock: Clock) -> None:
    now = clock.now
    assert is_over(Kept(1, "dead", None, now - LONG, now - 180 * DAY), KEEP, now)
    assert not is_over(Kept(1, "dead", None, now - LONG, now - 180 * DAY + SECOND), KEEP, now)
    assert not is_over(Kept(1, "dead", None, now - LONG, None), KEEP, now)
    assert not is_over(Kept(1, "sending", None, now - LONG, now - LONG), KEEP, now)


@on_sqlite
def test_a_person_is_told_how_much_would_go_and_how_much_went(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(capsys)
    store = Store(engine)
    ids = [put(engine) for _ in range(3)]
    for each in ids[:2]:
        cancel(store, each, "ann", "a test")
        created = row(engine, each)["created_at"]
        set_row(engine, each, created_at=created - 31 * DAY, finished_at=created - 31 * DAY)
    moment = row(engine, ids[2])["created_at"] - LONG
    with engine.begin() as connection:
        connection.execute(update(audit).values(at=moment))
    assert shell.good("purge", "--dry-run", "--json").json == {"would_go": {"audit": 2, "cancelled": 2}}
    assert shell.good("purge", "--dry-run").out == "would go: 2 rows of the audit, 2 cancelled\n"
    assert left(engine) == ids
    assert shell.good("purge").out == "purged: 2 rows of the audit, 2 cancelled\n"
    assert left(engine) == ids[2:]
    assert shell.good("purge", "--json").json == {"purged": {}}
