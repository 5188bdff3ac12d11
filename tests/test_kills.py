"""Nothing is lost, whatever is killed, stopped or missing: real workers, real signals."""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from tests.databases import on_postgresql_first, on_sqlite, on_sqlite_first
from tests.rig import HASTY, Place, Rig, WorkerProcess, engine_of, eventually, rig
from worker.broker import EmbeddedBroker

SLOW = "slow:1.0:delay=0.2"
UNHURRIED = 6
"""A lease in seconds with room for a deadline that a busy machine does not miss."""
SWEEP_SECONDS = 0.2
"""A rig's, from one sweep to the next."""


def accepted(made: Rig) -> Counter[str]:
    return Counter(each.reference for each in made.simulator.ledger.accepted)


def assert_nothing_lost(made: Rig, orders: int) -> None:
    """Every order delivered, by the database and by the receiver's own books, and taken in once."""
    assert [row.state for row in made.rows()] == ["delivered"] * orders
    assert accepted(made) == Counter({f"SO-{n}": 1 for n in range(orders)})


def assert_repeats_are_the_same(made: Rig) -> None:
    """Every repeat had the same bytes and the same identity, and was counted before it was sent."""
    seen = defaultdict(set)
    requests: Counter[str | None] = Counter()
    for request in made.simulator.ledger.requests:
        seen[request.identity].add((request.sha256, request.path, request.references))
        requests[request.identity] += 1
    assert all(len(each) == 1 for each in seen.values())
    for row in made.rows():
        assert row.attempts >= requests[row.idempotency_key]
        assert len(made.attempts(row.id)) == row.attempts


@on_postgresql_first
def test_a_worker_killed_while_sending_loses_nothing_and_another_engine_takes_over_in_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a machine that is busy with other tests a sweep takes long, and the next would be put off for it.
    monkeypatch.setattr("worker.chores.SWEEP_SHARE", 1.0)
    with rig(place, lease=UNHURRIED, attempt_deadline="2s") as made:
        made.simulator.set_faults([SLOW])
        made.orders(20)
        with made.worker(children=2) as doomed:
            eventually(lambda: len(made.simulator.ledger.requests) >= 6)
            doomed.kill()
            killed_at = datetime.now(UTC)
        in_flight = [row.id for row in made.rows() if row.state == "sending"]
        assert in_flight
        made.simulator.set_faults([])
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        recovered_in = max(row.finished_at for row in made.rows()) - killed_at
        assert recovered_in.total_seconds() < UNHURRIED + SWEEP_SECONDS + 1
        assert_nothing_lost(made, 20)
        assert_repeats_are_the_same(made)
        repeats = len(made.simulator.ledger.requests) - 20
        assert repeats <= len(in_flight)
        rescued = [row for row in made.rows() if row.rescues]
        assert {row.id for row in rescued} == set(in_flight)
        assert [each.verdict for each in made.attempts(rescued[0].id)] == ["rescued", "delivered"]
        assert all(row.tries == 0 for row in rescued), "a rescue spends no try"


def frozen(made: Rig, worker: WorkerProcess) -> list[Any]:
    """Stop a worker's processes between two transactions; return the rows as they are then.

    In the middle of one it keeps SQLite locked for as long as it is stopped, since nobody ends it for it.
    """
    for _ in range(10):
        worker.freeze()
        try:
            return made.rows()
        except OperationalError:
            worker.signal(signal.SIGCONT)
            eventually(made.rows)  # it has gone on, and ended that
    raise AssertionError("it is always in the middle of a transaction")


@on_postgresql_first
def test_a_worker_stopped_past_its_lease_can_write_nothing_when_it_goes_on(place: Place) -> None:
    with rig(place, lease=HASTY["lease"]) as made:
        made.simulator.set_faults([SLOW])
        made.orders(4)
        with made.worker() as sleeper:
            eventually(lambda: len(made.simulator.ledger.requests) >= 4)
            held = {row.id: row.lease_token for row in frozen(made, sleeper) if row.state == "sending"}
            assert held
            with engine_of(made):
                eventually(lambda: made.states() == {"delivered"})
                before = made.rows()
                sleeper.signal(signal.SIGCONT)
                eventually(lambda: sleeper.said("a late result"))
                assert made.rows() == before
                assert sleeper.terminate() == 0
        assert_nothing_lost(made, 4)
        assert_repeats_are_the_same(made)
        assert all(row.lease_token > held[row.id] for row in made.rows() if row.id in held)


@on_sqlite_first
def test_messages_are_delivered_when_every_hint_is_lost(place: Place) -> None:
    with rig(place) as made, EmbeddedBroker(place.folder / "state"), made.worker(children=2) as worker:
        eventually(lambda: worker.said(" ready."))
        made.orders(20)
        eventually(lambda: made.states() == {"delivered"})
        assert_nothing_lost(made, 20)


@on_sqlite_first
def test_messages_are_delivered_with_the_broker_gone_for_the_whole_run(place: Place) -> None:
    with rig(place, broker_url=f"redis+socket://{place.folder}/nobody.sock") as made:
        made.orders(20)
        with made.worker(children=2) as worker:
            eventually(lambda: made.states() == {"delivered"})
            made.order("SO-20")
            eventually(lambda: made.states() == {"delivered"})
            assert worker.terminate() == 0
        assert_nothing_lost(made, 21)


@on_postgresql_first
def test_a_stopped_worker_leaves_no_lease_and_no_duplicate_behind(place: Place) -> None:
    with rig(place, lease=20, attempt_deadline="6s") as made:
        made.simulator.set_faults([SLOW])
        made.orders(24)
        with made.worker(children=2) as first:
            eventually(lambda: len(made.simulator.ledger.requests) >= 6)
            assert first.terminate() == 0
        assert made.states() == {"pending", "delivered"}
        assert all(row.lease_until is None for row in made.rows())
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        assert_nothing_lost(made, 24)
        assert len(made.simulator.ledger.requests) == 24


@on_sqlite
def test_a_worker_stops_although_its_broker_is_frozen(place: Place) -> None:
    with (
        rig(place, drain="500ms") as made,
        EmbeddedBroker(place.folder / "state") as broker,
        made.worker() as worker,
    ):
        eventually(lambda: worker.said(" ready."))
        assert broker._process is not None
        broker._process.send_signal(signal.SIGSTOP)
        made.simulator.set_faults([SLOW])
        made.orders(20)
        eventually(lambda: len(made.simulator.ledger.requests) >= 4)
        worker.process.terminate()
        eventually(lambda: "sending" not in made.states(), 5)
        assert made.states() == {"pending", "delivered"}
        seen = len(made.simulator.ledger.requests)
        made.order("SO-LATE")
        assert worker.process.wait(25) == 0
        assert len(made.simulator.ledger.requests) == seen, "nothing was claimed after the signal"
        assert all(row.lease_until is None for row in made.rows())


@on_sqlite
def test_the_children_of_a_killed_worker_stop_by_themselves(place: Place) -> None:
    with rig(place) as made, made.worker(children=2) as worker:
        made.order("SO-0")
        eventually(lambda: made.states() == {"delivered"})
        eventually(lambda: len(worker.children()) == 2)
        children = worker.children()
        worker.process.kill()
        worker.process.wait()
        eventually(lambda: not any(Path(f"/proc/{child}/cmdline").exists() for child in children), 15)
