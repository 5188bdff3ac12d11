"""Replay runs on real databases: a canary, the rest at a rate, stopped, continued, killed in between."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from config import Rate, RetentionSettings
from orderflow_outbox import PREDEFINED, Catalogue
from orderflow_outbox.tables import audit, dead_letter, message, replay_run_member
from tests.databases import on_postgresql_first, on_sqlite_first
from tests.steps import (
    DAY,
    DELIVERED,
    LATER,
    REFUSED,
    SECOND,
    Clock,
    another_connection,
    bury,
    claim_all,
    configuration,
    finish,
    outcome,
    put,
    recorder,
    rows,
    set_row,
    why,
)
from worker.by_hand import NotPossible, cancel, discard, hold
from worker.purge import Purger
from worker.replays import driving, runs
from worker.replays.driving import ENDS_AT_ONCE, TURNS_AT_ONCE, Driven, drive
from worker.replays.replaying import replay
from worker.replays.run import Care, Run, RunState
from worker.replays.surveying import Finding, survey
from worker.store.finding import Filter
from worker.store.transactions import Store, Transaction
from worker.verdicts import SPLIT, Delivered, Refused, Verdict, Why

MINUTE = timedelta(minutes=1)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
CAREFUL = Care(canary=4, stop_share=0.25)


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


def dead(store: Store, engine: Engine, number: int, verdict: Verdict = REFUSED) -> list[int]:
    """Let messages die together; return their numbers."""
    ids = [put(engine) for _ in range(number)]
    answer(store, verdict)
    return ids


def answer(store: Store, verdict: Verdict, number: int = 100) -> list[int]:
    """Record a verdict on messages that are due; return of which they are replays."""
    claims = claim_all(store, number).claims
    assert recorder(store).record([outcome(each, verdict) for each in claims])
    with store.reading() as look:
        found = look.connection.execute(message.select().where(message.c.id.in_([c.id for c in claims])))
        return sorted(row.replay_of for row in found if row.replay_of is not None)


def begin(store: Store, care: Care = CAREFUL, **wanted: Any) -> Run:
    return runs.begin(store, Filter(**wanted), care, "ann", "article added", configuration())


def go(store: Store) -> int:
    """Have an engine do all it would now; return how many it replayed."""
    driven, sent = Driven(more=True), 0
    while driven.more:
        driven = drive(store, PREDEFINED)
        sent += driven.sent
    return sent


def state(store: Store, run: Run) -> RunState:
    return runs.find(store, run.id).state


def verbs(engine: Engine) -> list[tuple[str, str]]:
    return [(each["verb"], each["by"]) for each in rows(engine, audit) if each["verb"] != "replay"]


def test_a_run_sends_its_canary_and_when_that_is_delivered_the_rest(engine: Engine, store: Store) -> None:
    ids = dead(store, engine, 12)
    run = begin(store)
    assert (run.chosen, run.state) == (12, RunState.CANARY)
    assert go(store) == 4
    assert go(store) == 0
    canary = answer(store, DELIVERED)
    assert [ids.index(each) for each in canary] == [1, 4, 7, 10], "spread over all, oldest to newest"
    assert go(store) == 8
    turns = sorted(rows(engine, replay_run_member), key=lambda each: each["place"])
    assert [each["message_id"] for each in turns] == [*canary, *(each for each in ids if each not in canary)]
    assert (state(store, run), len(answer(store, DELIVERED))) == (RunState.ENDING, 8)
    go(store)
    over = runs.find(store, run.id)
    assert (over.state, over.sent, over.delivered, over.under_way) == (RunState.FINISHED, 12, 12, 0)
    assert {each["resolution"] for each in rows(engine, dead_letter)} == {"replayed"}
    assert verbs(engine) == [("begin-run", "ann"), ("finish-run", "the service")]
    replays = [each for each in rows(engine, audit) if each["verb"] == "replay"]
    assert {(each["by"], each["why"], each["detail"]["run"]) for each in replays} == {
        ("ann", "article added", run.id)
    }
    assert sorted(each["message_id"] for each in replays) == ids


def test_a_run_that_fails_keeps_no_other_from_its_step(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(store, engine, 1)
    broken = begin(store)
    dead(store, engine, 2)
    other = begin(store)
    stepped = driving.step

    def step(transaction: Transaction, run: Run, catalogue: Catalogue) -> Driven:
        done = stepped(transaction, run, catalogue)
        if run.id == broken.id:
            raise OSError("no such luck")
        return done

    monkeypatch.setattr(driving, "step", step)
    with pytest.raises(OSError, match="no such luck"):
        drive(store, PREDEFINED)
    assert [runs.find(store, each.id).sent for each in (broken, other)] == [0, 3]


def test_each_cause_has_its_share_of_the_canary(engine: Engine, store: Store) -> None:
    dead(store, engine, 6)
    others = dead(store, engine, 3, Refused(why("not_understood")))
    dead(store, engine, 3)
    begin(store)
    go(store)
    assert len(set(answer(store, DELIVERED)) & set(others)) == 1


@on_sqlite_first
def test_when_too_many_of_the_canary_fail_nothing_more_is_sent(engine: Engine, store: Store) -> None:
    dead(store, engine, 12)
    run = begin(store)
    go(store)
    answer(store, REFUSED)
    assert (go(store), state(store, run)) == (0, RunState.STOPPED)
    assert "failed again: past the 25 %" in str(runs.find(store, run.id).said)
    assert len(rows(engine, message)) == 16
    assert verbs(engine) == [("begin-run", "ann"), ("stop-run", "the service")]


@on_postgresql_first
def test_a_stopped_run_is_continued_with_the_rest_and_stopped_by_new_failures_alone(
    engine: Engine, store: Store
) -> None:
    dead(store, engine, 30)
    run = begin(store)
    go(store)
    answer(store, REFUSED, 2)
    assert (go(store), state(store, run)) == (0, RunState.STOPPED)
    answer(store, REFUSED)
    continued = runs.go_on(store, run.id, "bob", "article added now")
    assert (continued.state, continued.failed, continued.judged) == (RunState.RUNNING, 4, 0)
    assert go(store) == 26
    answer(store, DELIVERED)
    go(store)
    over = runs.find(store, run.id)
    assert (over.state, over.delivered, over.failed) == (RunState.FINISHED, 26, 4)
    assert ("continue-run", "bob") in verbs(engine)


@on_sqlite_first
def test_failures_on_the_way_stop_a_run_and_what_was_sent_stays(
    engine: Engine, store: Store, clock: Clock
) -> None:
    dead(store, engine, 60)
    run = begin(store, Care(stop_share=0.1, rate=Rate(requests=30, per=SECOND)))
    assert go(store) == 1
    clock.forward(SECOND)
    assert go(store) == 30
    answer(store, REFUSED, 3)
    clock.forward(SECOND)
    assert (go(store), state(store, run)) == (0, RunState.STOPPED)
    assert {each["state"] for each in rows(engine, message)} == {"dead", "pending"}
    assert len(answer(store, DELIVERED)) == 28, "those are sent all the same"


@on_postgresql_first
def test_the_rate_is_kept_and_not_made_up_for_after_a_time_without_engines(
    engine: Engine, store: Store, clock: Clock
) -> None:
    dead(store, engine, 12)
    begin(store, Care(rate=Rate(requests=2, per=SECOND)))
    assert go(store) == 1
    clock.forward(SECOND)
    assert go(store) == 2
    clock.forward(SECOND / 2)
    assert go(store) == 1
    clock.forward(timedelta(hours=1))
    assert go(store) == 2


@on_sqlite_first
def test_what_waits_for_a_held_destination_is_no_failure(engine: Engine, store: Store, clock: Clock) -> None:
    dead(store, engine, 12)
    run = begin(store, replace(CAREFUL, patience=10 * MINUTE))
    hold(store, "main", "dan", "their night")
    go(store)
    assert claim_all(store).claims != []  # the gate is looked at by the engine
    clock.forward(9 * MINUTE)
    assert (go(store), state(store, run)) == (0, RunState.WAITING)
    clock.forward(MINUTE)
    assert (go(store), state(store, run)) == (0, RunState.STOPPED)
    assert "have not ended within 10 min" in str(runs.find(store, run.id).said)


@on_sqlite_first
def test_what_is_tried_again_is_neither_delivered_nor_failed_yet(
    engine: Engine, store: Store, clock: Clock
) -> None:
    dead(store, engine, 8)
    run = begin(store, replace(CAREFUL, patience=timedelta(days=1)))
    go(store)
    answer(store, LATER)
    go(store)
    assert (state(store, run), runs.find(store, run.id).under_way) == (RunState.WAITING, 4)


@on_sqlite_first
def test_a_replay_of_which_items_failed_counts_as_failed(engine: Engine, store: Store) -> None:
    dead(store, engine, 4)
    run = begin(store)
    go(store)
    answer(store, Delivered(Why(SPLIT, "3 done, 1 refused", "a-rule")))
    go(store)
    assert (state(store, run), runs.find(store, run.id).failed) == (RunState.STOPPED, 2 + 2)


@on_sqlite_first
def test_what_is_superseded_or_cancelled_on_the_way_is_no_failure(engine: Engine, store: Store) -> None:
    ids = dead(store, engine, 2)
    run = begin(store, Care(stop_share=0.0))
    go(store)
    with store.reading() as look:
        cancelled = look.connection.scalar(message.select().where(message.c.replay_of == ids[0]))
    assert cancelled is not None
    cancel(store, cancelled, "ann", "no longer wanted")
    answer(store, DELIVERED)
    go(store)
    over = runs.find(store, run.id)
    assert (over.state, over.delivered, over.others, over.failed) == (RunState.FINISHED, 1, 1, 0)


@on_sqlite_first
def test_what_another_has_dealt_with_meanwhile_is_left_out_with_the_reason(
    engine: Engine, store: Store
) -> None:
    first, second, third = dead(store, engine, 3)
    run = begin(store, Care(rate=Rate(requests=1, per=SECOND)))
    new = replay(store, first, "bob", "at once").replay
    discard(store, second, "bob", "test order")
    assert go(store) == 1
    shown = runs.show(store, run.id, 10)
    assert (shown.run.sent, shown.run.left_out) == (1, 2)
    assert [(each["message_id"], each["said"]) for each in shown.members] == [
        (first, f"it was replayed before, as message {new}"),
        (second, f"message {second} was discarded: enqueue it anew"),
    ]
    assert len(rows(engine, message, replay_of=third)) == 1


@pytest.mark.parametrize(("of", "until"), [(1, 3), (4, 6), (1, 6)])
def test_members_that_are_purged_before_their_turn_are_left_out_and_no_other_is_taken_twice(
    engine: Engine, store: Store, clock: Clock, of: int, until: int
) -> None:
    ids = dead(store, engine, 6)
    run = begin(store, Care(rate=Rate(requests=1, per=SECOND)))
    assert go(store) == 1
    runs.stop(store, run.id, "bob", "their night")
    for each in ids[of:until]:
        discard(store, each, "cleo", "test order")
    clock.forward(DAY)
    purger = Purger(store, RetentionSettings(dead=DAY, delivered=None))
    while purger.purge_some():
        pass
    assert [each["message_id"] for each in rows(engine, replay_run_member)] == [*ids[:of], *ids[until:]]
    runs.go_on(store, run.id, "bob", "morning")
    for _ in ids:
        go(store)
        clock.forward(SECOND)
    answer(store, DELIVERED)
    go(store)
    over = runs.find(store, run.id)
    assert (over.state, over.sent, over.left_out) == (RunState.FINISHED, 6 - (until - of), until - of)
    assert {each["outcome"] for each in rows(engine, replay_run_member)} == {"delivered"}


@on_sqlite_first
def test_what_cannot_be_sent_is_left_out_from_the_start(engine: Engine, store: Store) -> None:
    gone = bury(store, engine, destination="main", key="order:1")
    bad = bury(store, engine, destination="main")
    with engine.begin() as connection:
        connection.execute(message.update().where(message.c.id == gone).values(operation="of-old"))
        connection.execute(message.update().where(message.c.id == bad).values(destination="old"))
    with pytest.raises(NotPossible, match="nothing is to be replayed"):
        begin(store)
    good = bury(store, engine)
    run = begin(store)
    assert (run.total, run.chosen, run.left_out, run.care.canary) == (3, 1, 2, 1)
    go(store)
    assert [each["replay_of"] for each in rows(engine, message) if each["replay_of"]] == [good]
    assert [each["said"].partition(":")[0] for each in runs.show(store, run.id, 10).members] == [
        "of an operation that is not known",
        "to a destination that is not configured",
    ]


@on_sqlite_first
def test_the_canary_is_taken_of_those_that_wait_for_nobody(engine: Engine, store: Store) -> None:
    elder = bury(store, engine, key="order:1")
    younger = put(engine, key="order:1")
    with engine.begin() as connection:  # as when its elder was replayed, and died again
        connection.execute(message.update().where(message.c.id == elder).values(blocks=False))
    finish(store, REFUSED)
    with engine.begin() as connection:
        connection.execute(message.update().where(message.c.id == elder).values(blocks=True))
    begin(store, Care(canary=1))
    go(store)
    assert [each["replay_of"] for each in rows(engine, message) if each["replay_of"]] == [elder]
    answer(store, DELIVERED)
    go(store)
    assert answer(store, DELIVERED) == [younger]


@on_sqlite_first
@pytest.mark.parametrize(
    ("caution", "finding"),
    [({"expires_at": LONG_AGO}, Finding.EXPIRED), ({"in_doubt": True}, Finding.IN_DOUBT)],
)
def test_a_canary_is_taken_of_those_too_that_are_sent_at_once_with_a_caution(
    engine: Engine, store: Store, caution: dict[str, Any], finding: Finding
) -> None:
    ids = dead(store, engine, 10)
    for each in ids[1:]:
        set_row(engine, each, **caution)
    assert survey(store, Filter(), configuration()).found[finding].number == 9
    run = begin(store, Care(canary=5))
    assert (run.care.canary, go(store)) == (5, 5)
    replayed = {each["replay_of"] for each in rows(engine, message) if each["replay_of"]}
    assert [ids.index(each) for each in sorted(replayed)] == [1, 3, 5, 7, 9]


@on_sqlite_first
def test_a_run_over_more_messages_than_are_looked_at_for_one_does_not_begin(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(store, engine, 3)
    monkeypatch.setattr(runs, "MOST_MESSAGES", 2)
    with pytest.raises(NotPossible, match="these are more than 2 messages: name fewer by a filter"):
        begin(store)
    assert (runs.latest(store, 10), rows(engine, replay_run_member), verbs(engine)) == ([], [], [])
    monkeypatch.setattr(runs, "MOST_MESSAGES", 3)
    assert begin(store).total == 3


@on_postgresql_first
def test_the_messages_of_a_run_are_fixed_when_it_begins(engine: Engine, store: Store) -> None:
    dead(store, engine, 2)
    run = begin(store, Care(rate=Rate(requests=100, per=SECOND)), reason="items_failed")
    dead(store, engine, 1)
    go(store)
    assert (runs.find(store, run.id).chosen, len(rows(engine, replay_run_member))) == (2, 2)


def test_a_run_over_an_incident_takes_its_letters_alone(engine: Engine, store: Store) -> None:
    one, other = bury(store, engine), bury(store, engine, reason="not_understood")
    of_other = rows(engine, dead_letter, message_id=other)[0]["incident_id"]
    begin(store, Care(), incident=of_other)
    go(store)
    assert [each["replay_of"] for each in rows(engine, message) if each["replay_of"]] == [other]
    assert rows(engine, dead_letter, message_id=one)[0]["resolution"] == "open"


@on_sqlite_first
def test_a_person_stops_a_run_and_continues_it(engine: Engine, store: Store) -> None:
    dead(store, engine, 8)
    run = begin(store)
    go(store)
    stopped = runs.stop(store, run.id, "bob", "their night")
    assert (stopped.state, stopped.said, stopped.changed_by) == (RunState.STOPPED, "their night", "bob")
    answer(store, DELIVERED)
    assert go(store) == 0
    assert runs.find(store, run.id).delivered == 4, "what ends is noted all the same"
    assert runs.go_on(store, run.id, "bob", "morning").state is RunState.RUNNING
    assert go(store) == 4
    assert verbs(engine) == [("begin-run", "ann"), ("stop-run", "bob"), ("continue-run", "bob")]


@on_postgresql_first
def test_a_cancelled_run_leaves_the_rest_dead_for_good(engine: Engine, store: Store) -> None:
    dead(store, engine, 8)
    run = begin(store)
    go(store)
    runs.cancel_run(store, run.id, "bob", "to be discarded")
    answer(store, DELIVERED)
    assert (go(store), state(store, run)) == (0, RunState.CANCELLED)
    with pytest.raises(NotPossible, match="is cancelled: only a stopped one can be continued"):
        runs.go_on(store, run.id, "bob", "after all")
    assert sum(each["resolution"] == "open" for each in rows(engine, dead_letter)) == 4


@on_sqlite_first
def test_a_run_is_stopped_continued_and_cancelled_only_where_that_means_something(
    engine: Engine, store: Store
) -> None:
    dead(store, engine, 1)
    run = begin(store, Care())
    with pytest.raises(NotPossible, match="is running: only a stopped one"):
        runs.go_on(store, run.id, "bob", "on")
    go(store)
    for act in (runs.stop, runs.cancel_run):
        with pytest.raises(NotPossible, match="is ending: there is nothing to"):
            act(store, run.id, "bob", "too late")
        with pytest.raises(runs.NoSuchRun, match="there is no replay run 4711"):
            act(store, 4711, "bob", "which?")
    assert [each.id for each in runs.latest(store, 10)] == [run.id]


def test_a_step_that_dies_has_not_happened(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(store, engine, TURNS_AT_ONCE + 5)
    run = begin(store, Care())
    with monkeypatch.context() as patched:
        patched.setattr(driving.replay_runs, "write_turns", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            drive(store, PREDEFINED)
    assert rows(engine, audit)[1:] == []
    assert (runs.find(store, run.id).sent, len(rows(engine, message))) == (0, TURNS_AT_ONCE + 5)
    assert go(store) == TURNS_AT_ONCE + 5
    assert len(rows(engine, message)) == 2 * (TURNS_AT_ONCE + 5)


def test_engines_that_step_at_once_replay_each_message_once_and_keep_the_rate(
    engine: Engine, store: Store, clock: Clock
) -> None:
    number, engines = 12, 4
    dead(store, engine, number)
    run = begin(store, Care(rate=Rate(requests=5, per=SECOND)))
    together = threading.Barrier(engines, timeout=20)
    sent: list[int] = []

    def step() -> None:
        own = Store(another_connection(engine), clock)
        together.wait()
        sent.append(sum(drive(own, PREDEFINED).sent for _ in range(3)))
        own.close()

    for _ in range(2):
        clock.forward(SECOND)
        threads = [threading.Thread(target=step) for _ in range(engines)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (sum(sent), len(sent)) == (1 + 5, 2 * engines)
    assert runs.find(store, run.id).sent == 6
    replays = [each["replay_of"] for each in rows(engine, message) if each["replay_of"]]
    assert len(set(replays)) == len(replays) == 6


def test_an_engine_asks_for_no_lock_where_no_run_has_anything_to_do(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(store, engine, 5)
    begin(store)
    go(store)
    monkeypatch.setattr(Store, "writing", lambda _self: pytest.fail("it writes"))
    assert drive(store, PREDEFINED) == Driven()


def test_steps_take_a_third_of_the_time_at_most_however_much_there_is_to_do() -> None:
    assert [driving.pause_after(0.3, more=more) for more in (True, False)] == [0.6, driving.SECONDS_BETWEEN]
    assert [driving.pause_after(3.0, more=more) for more in (True, False)] == [6.0, 6.0]


@on_postgresql_first
def test_a_step_is_bounded_and_says_that_there_is_more(engine: Engine, store: Store) -> None:
    dead(store, engine, TURNS_AT_ONCE + 1)
    begin(store, Care())
    assert drive(store, PREDEFINED) == Driven(TURNS_AT_ONCE, more=True)
    assert drive(store, PREDEFINED) == Driven(1, more=False)
    assert TURNS_AT_ONCE < ENDS_AT_ONCE
