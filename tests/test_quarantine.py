"""A message that ends each process that sends it is found out, and takes nobody with it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine

import config
from orderflow_outbox import enqueue
from orderflow_outbox.tables import attempt, dead_letter, message
from tests.databases import on_postgresql_first, on_sqlite
from tests.documents import order
from tests.nursery import Program
from tests.rig import Place, Rig, engine_of, eventually, rig
from tests.steps import (
    DAY,
    DELIVERED,
    LATER,
    LEASE,
    SECOND,
    Clock,
    claim_all,
    claim_one,
    configuration,
    outcome,
    put,
    recorder,
    row,
    rows,
    set_row,
    swept,
)
from worker.by_hand import hold
from worker.commands import main
from worker.looking import Looker
from worker.ports import announce_nothing
from worker.quarantine import Death, Keeper, keeping
from worker.quarantine.delivering import OneByOne
from worker.quarantine.judging import MOST_DEATHS, MOST_RESCUES, verdict_on
from worker.quarantine.telling import TAKEN, Told, line_of, told_by
from worker.store.causes import AlertTimes
from worker.store.transactions import Store
from worker.sweep import Swept
from worker.transport import Transport
from worker.verdicts import Refused, RetryLater

SLOW = "slow:1.0:delay=0.8"


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


# With real processes


@on_postgresql_first
def test_what_kills_or_hangs_its_process_dies_after_two_that_had_it_alone_and_takes_nobody_along(
    place: Place, poison: None
) -> None:
    with rig(place, lease=1.5) as made, made.worker(children=2) as worker:
        made.orders(5)
        deadly = made.order("SO-POISON")
        eventually(lambda: made.states() == {"delivered", "dead"})
        reasons = [each.reason for each in made.attempts(deadly.id)]
        assert reasons == ["lease_ran_out", "lease_ran_out", "process_died", "process_died"]
        endless = made.order("SO-HANGS")
        eventually(lambda: made.states() == {"delivered", "dead"}, 60)
        assert [each.reason for each in made.attempts(endless.id)][-2:] == ["process_died", "process_died"]
        dead = [(each.id, each.in_doubt, each.tries) for each in made.rows() if each.state == "dead"]
        assert dead == [(deadly.id, True, 0), (endless.id, True, 0)]
        letters = rows(made.engine, dead_letter)
        assert [each["reason"] for each in letters] == ["crash_loop", "crash_loop"]
        assert [each["text"] for each in letters] == [
            f"the process that had it alone {ended}, as 1 did before"
            for ended in ("was ended by signal 9 (Killed)", "stopped by itself with exit code 1")
        ]
        assert {each.reference for each in made.simulator.ledger.accepted} == {f"SO-{n}" for n in range(5)}
        assert worker.said("_send_or_die"), "where it hung is told"
        assert not worker.said("Traceback")


@on_sqlite
def test_a_process_that_is_killed_once_is_forgiven_and_the_innocent_are_delivered(place: Place) -> None:
    with rig(place) as made, engine_of(made):
        made.simulator.set_faults([SLOW])
        ids = put_into_quarantine(made, 3)
        process = sending_in_quarantine(made)
        (suspect,) = [each.id for each in made.rows() if each.state == "sending"]
        process.kill()
        made.simulator.set_faults([])
        eventually(lambda: made.states() == {"delivered"})
        assert [each.reason for each in made.attempts(suspect)][:-1] == ["process_died"]
        assert all(len(made.attempts(each)) == 1 for each in ids if each != suspect)


@on_sqlite
def test_destinations_take_turns_in_quarantine(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.quarantine.delivering.LINGER_SECONDS", 0.5)
    with rig(place) as made:
        first = (place.folder / "destinations.toml").read_text()
        (place.folder / "destinations.toml").write_text(
            first + first.replace("[destinations.main", "[destinations.two")
        )
        for destination in ("main", "two"):
            put_into_quarantine(made, 3, destination)
        told: list[Told] = []
        one_by_one = OneByOne(Store(made.engine), config.load(made.file), Transport(), told.append)
        asyncio.run(one_by_one.run())
        assert made.states() == {"delivered"}
        taken = [each.claim.destination for each in told if each.what == TAKEN]
        assert [set(pair) for pair in zip(taken[::2], taken[1::2], strict=True)] == 3 * [{"main", "two"}]


@on_sqlite
def test_a_process_that_is_killed_with_its_engine_is_held_against_nobody(place: Place) -> None:
    with rig(place, lease=3.0, attempt_deadline="1s") as made:
        made.simulator.set_faults([SLOW])
        (only,) = put_into_quarantine(made, 1)
        with engine_alone(made) as doomed:
            process = sending_in_quarantine(made)
            doomed.kill()
            process.kill()
        made.simulator.set_faults([])
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        assert [each.reason for each in made.attempts(only)][:-1] == ["lease_ran_out"]


@on_sqlite
def test_a_process_whose_engine_was_killed_finishes_what_it_has_and_ends(place: Place) -> None:
    with rig(place) as made:
        made.simulator.set_faults([SLOW])
        put_into_quarantine(made, 2)
        with engine_alone(made) as doomed:
            process = sending_in_quarantine(made)
            doomed.kill()
        eventually(lambda: not is_of_quarantine(process, made.file))
        assert sorted(each.state for each in made.rows()) == ["delivered", "pending"]


@on_sqlite
def test_an_engine_that_stops_leaves_nothing_in_quarantine_behind(place: Place) -> None:
    with rig(place, drain="300ms") as made:
        made.simulator.set_faults(["slow:1.0:delay=1.9"])
        (only,) = put_into_quarantine(made, 1)
        with engine_of(made):
            sending_in_quarantine(made)
        assert not of_quarantine(made)
        (cut,) = made.rows()
        assert (cut.state, cut.lease_until, cut.in_doubt, cut.tries) == ("pending", None, True, 0)
        assert [each.verdict for each in made.attempts(only)] == ["released"]


@on_sqlite
def test_an_engine_that_stops_ends_what_is_frozen_in_quarantine(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.engine.LAST_RECORD_SECONDS", 0.5)
    with rig(place) as made:
        made.simulator.set_faults([SLOW])
        put_into_quarantine(made, 1)
        with engine_of(made):
            process = sending_in_quarantine(made)
            process.suspend()
        eventually(lambda: not is_of_quarantine(process, made.file))


@contextmanager
def engine_alone(made: Rig) -> Iterator[Program[bytes]]:
    """Run an engine in a process of its own, which has no broker and no children; kill it at the end."""
    process = Program[bytes]("tests.proof.engine", env=made.environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def put_into_quarantine(made: Rig, count: int, destination: str = "main") -> list[int]:
    """Enqueue orders whose leases have run out twice, for all that anybody knows; return their numbers."""
    with made.engine.begin() as connection:
        ids = [
            enqueue(connection, "order-import", order(f"SO-{n}"), channel="web", destination=destination).id
            for n in range(count)
        ]
        connection.execute(message.update().where(message.c.id.in_(ids)).values(rescues=2))
    return ids


def sending_in_quarantine(made: Rig) -> psutil.Process:
    """Return the process of the rig's quarantine, once its first request has arrived."""
    eventually(lambda: made.simulator.ledger.requests)
    (process,) = of_quarantine(made)
    return process


def of_quarantine(made: Rig) -> list[psutil.Process]:
    """Return the processes of the rig's quarantine."""
    return [each for each in psutil.process_iter() if is_of_quarantine(each, made.file)]


def is_of_quarantine(process: psutil.Process, file: Path) -> bool:
    try:
        words, variables = process.cmdline(), process.environ()
    except psutil.Error:
        return False
    return bool(words[1:] == ["-m", "worker.quarantine"]) and variables.get("OUTBOX_CONFIG") == str(file)


# Step by step


def test_an_engine_leaves_alone_what_is_in_quarantine(engine: Engine, store: Store) -> None:
    suspect, other = put(engine), put(engine)
    set_row(engine, suspect, rescues=2)
    assert [each.id for each in claim_all(store).claims] == [other]
    (only,) = Looker(store, LEASE, quarantined=True).look({"main": 10}).claims
    assert only.id == suspect


def test_what_is_in_quarantine_keeps_its_place_in_the_order(engine: Engine, store: Store) -> None:
    elder, follower = put(engine, "order:1"), put(engine, "order:1")
    set_row(engine, elder, rescues=2)
    assert not claim_all(store).claims
    (only,) = Looker(store, LEASE, quarantined=True).look({"main": 10}).claims
    recorder(store).record([outcome(only, DELIVERED)])
    assert [each.id for each in claim_all(store).claims] == [follower]


def test_an_engine_with_only_quarantined_messages_due_sleeps_on(engine: Engine, store: Store) -> None:
    set_row(engine, put(engine), rescues=2)
    assert not Looker(store, LEASE).look({"main": 0}).full


def test_a_process_is_wanted_only_where_there_is_something_to_send(engine: Engine, store: Store) -> None:
    suspect = put(engine)
    assert not keeper_of(store).is_wanted()
    set_row(engine, suspect, rescues=2)
    assert keeper_of(store).is_wanted()
    hold(store, "main", "ann", "they move")
    assert not keeper_of(store).is_wanted()


def test_one_message_at_a_time_is_sent_from_quarantine(engine: Engine, store: Store) -> None:
    for suspect in (put(engine), put(engine)):
        set_row(engine, suspect, rescues=2)
    assert Looker(store, LEASE, quarantined=True).look({"main": 1}).claims
    assert not keeper_of(store).is_wanted()


def test_a_death_is_logged_and_spends_no_try(engine: Engine, store: Store, clock: Clock) -> None:
    put(engine)
    claimed = claim_one(store)
    keeper_of(store).bury_or_retry(Death(claimed, "was ended by signal 11 (Segmentation fault)"))
    after = row(engine, claimed.id)
    assert (after["state"], after["tries"], after["in_doubt"]) == ("pending", 0, True)
    assert after["due_at"] > clock.now
    (logged,) = rows(engine, attempt)
    assert logged["error"] == "the process that had it alone was ended by signal 11 (Segmentation fault)"


def test_deaths_count_as_long_as_nothing_else_comes_of_the_message(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put(engine)
    keeper = keeper_of(store)
    for verdict in (None, LATER, None, None):
        clock.forward(DAY / 2)
        claimed = claim_one(store)
        if verdict is None:
            keeper.bury_or_retry(Death(claimed, "vanished"))
        else:
            recorder(store).record([outcome(claimed, verdict)])
    assert row(engine, claimed.id)["state"] == "dead"
    assert row(engine, claimed.id)["attempts"] == 4


def test_a_process_that_cannot_send_is_started_more_and_more_seldom(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_row(engine, put(engine), rescues=2)
    monkeypatch.setattr(keeping, "PROGRAM", [sys.executable, "-c", "raise SystemExit(1)"])
    passed = 0.0
    keeper = keeper_of(store, lambda: passed)
    rests = []
    for _ in range(7):
        assert keeper.watch() is None
        begun = passed
        while not keeper.is_wanted():
            passed += 1
        rests.append(passed - begun)
    assert rests == [2, 4, 8, 16, 32, 60, 60]


def test_a_person_is_told_what_is_in_quarantine(
    engine: Engine, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    suspect = put(engine)
    for rescues, told in ((0, False), (1, False), (2, True)):
        set_row(engine, suspect, rescues=rescues)
        assert main(["show", str(suspect)]) == 0
        assert ("by a process of its own" in capsys.readouterr().out) is told


def test_a_death_over_a_lease_that_was_taken_over_changes_nothing(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put(engine)
    claimed = claim_one(store)
    clock.forward(LEASE + SECOND)
    swept(store)
    before = row(engine, claimed.id)
    keeper_of(store).bury_or_retry(Death(claimed, "vanished"))
    assert row(engine, claimed.id) == before
    assert len(rows(engine, attempt)) == 1


def test_whose_lease_runs_out_again_and_again_dies_without_a_witness(engine: Engine, store: Store) -> None:
    endless, patient = put(engine), put(engine)
    set_row(engine, endless, rescues=MOST_RESCUES)
    set_row(engine, patient, rescues=MOST_RESCUES - 1)
    assert swept(store) == Swept(rescued=0, unparked=0, aging=0, expired=1)
    assert [row(engine, each)["state"] for each in (endless, patient)] == ["dead", "pending"]
    (letter,) = rows(engine, dead_letter)
    assert (letter["message_id"], letter["reason"]) == (endless, "crash_loop")
    assert not swept(store).expired


def test_the_second_death_is_the_last() -> None:
    first, last = verdict_on(1, "vanished"), verdict_on(MOST_DEATHS, "vanished")
    assert isinstance(first, RetryLater)
    assert (first.spends_try, first.systemic) == (False, False)
    assert isinstance(last, Refused)
    assert last.why.reason == "crash_loop"


def test_what_is_told_holds_no_document(engine: Engine, store: Store) -> None:
    put(engine, "order:1", headers={"X-Own": "header-of-the-shop"}, expires_at=Clock().now + LEASE)
    claimed = claim_one(store)
    line = line_of(Told(TAKEN, claimed, "text", 1.5))
    assert claimed.payload is not None
    assert "externalReference" not in line
    assert "header-of-the-shop" not in line
    what, told, text, seconds = told_by(line)
    assert (what, text, seconds) == (TAKEN, "text", 1.5)
    untold: dict[str, Any] = {"payload": None, "query": {}, "headers": {}}
    assert all(getattr(told, name) == untold.get(name, getattr(claimed, name)) for name in claimed.__slots__)


def keeper_of(store: Store, monotonic: Callable[[], float] = time.monotonic) -> Keeper:
    times = AlertTimes(SECOND, SECOND)
    return Keeper(store, configuration(), times, announce_nothing, monotonic)
