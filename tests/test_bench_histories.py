"""Figures with much in the database run in miniature; what SQL puts there is what the service writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import Engine, Table, select

from bench import bulk, fair, hinting, history, memory, seeding, snapshot
from bench.books import moments_of, rate_between
from bench.comparing import Comparison
from bench.orders import identities, order
from bench.plan import Plan
from bench.stage import Stage, set_up
from bench.watching import Watch, watching
from orderflow_outbox import enqueue_many
from orderflow_outbox.messages import check
from orderflow_outbox.tables import attempt, body, item, message, term, unindexed
from tests.databases import on_postgresql
from tests.rig import Place, engine_of, eventually, rig

SMALL = Plan(
    messages=500,
    plain_messages=500,
    rounds=1,
    seconds=1.0,
    transactions=24,
    followers=100,
    crowd=3000,
    window=256,
    prefetch=16,
)
TIMES = {"due_at", "created_at", "started_at", "finished_at", "seconds"}
NUMBERS = {"id", "message_id", "position"}


@pytest.fixture(scope="module")
def set_up_once() -> Iterator[Stage]:
    with set_up() as made:
        yield made


@pytest.fixture
def stage(set_up_once: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """What figures are taken on, without the settings that other tests have: their processes read them."""
    for name in [name for name in os.environ if name.startswith("OUTBOX_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(hinting, "ROUNDS", 2)
    monkeypatch.setattr(bulk, "ROUNDS", 2)
    return set_up_once


@pytest.fixture
def watch() -> Iterator[Watch]:
    with watching(Console(stderr=True)) as made:
        yield made


def rows_of(engine: Engine, table: Table, number: int) -> list[dict[str, Any]]:
    """Return a message's rows, without what no two messages share, and its times only as being there."""
    column = table.c.id if table is message else table.c.message_id
    with engine.connect() as connection:
        rows = connection.execute(
            select(table).where(column == number).order_by(*table.primary_key)
        ).mappings()
        return [
            {
                name: value is not None if name in TIMES else value
                for name, value in row.items()
                if name not in NUMBERS
            }
            for row in rows
        ]


def number_of(engine: Engine, identity: str) -> int:
    with engine.connect() as connection:
        return connection.execute(
            select(message.c.id).where(message.c.idempotency_key == identity)
        ).scalar_one()


def renamed(rows: list[dict[str, Any]], identity: str) -> list[dict[str, Any]]:
    """Return rows of another message as they would be of this one."""
    checked = check(order(identity))
    digests = {"fingerprint": checked.fingerprint, "sha256": checked.sha256}

    def of_it(column: str, value: Any) -> Any:
        if column in digests:
            return digests[column]
        if isinstance(value, bytes):
            return value.replace(b"real-000001", identity.encode())
        if isinstance(value, dict):
            return {key: of_it(key, each) for key, each in value.items()}
        return value.replace("real-000001", identity) if isinstance(value, str) else value

    return [{column: of_it(column, value) for column, value in row.items()} for row in rows]


@on_postgresql
def test_a_message_seeded_as_pending_is_as_enqueue_and_the_indexer_leave_it_and_is_delivered(
    place: Place,
) -> None:
    with rig(place) as made:
        seeding.seed_pending(place.database_url, "seeded", 3)
        assert [row.idempotency_key for row in made.rows()] == identities("seeded", 3)
        assert seeding.is_indexed(place.database_url)
        with made.engine.begin() as connection:
            (real,) = enqueue_many(connection, [order("real-000001")])
        assert not seeding.is_indexed(place.database_url)
        seeded = number_of(made.engine, "seeded-000002")
        for table in (message, body):
            expected = renamed(rows_of(made.engine, table, real.id), "seeded-000002")
            assert rows_of(made.engine, table, seeded) == expected, table.name
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
            eventually(lambda: seeding.is_indexed(place.database_url))
        expected = renamed(rows_of(made.engine, term, real.id), "seeded-000002")
        assert sorted(map(str, rows_of(made.engine, term, seeded))) == sorted(map(str, expected))
        assert {request.identity for request in made.simulator.ledger.requests} >= set(
            identities("seeded", 3)
        )


@on_postgresql
def test_a_message_seeded_as_finished_is_as_a_worker_leaves_it(place: Place) -> None:
    with rig(place) as made:
        with made.engine.begin() as connection:
            model, real = enqueue_many(connection, [order(each) for each in identities("real", 2)])
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
            eventually(lambda: seeding.is_indexed(place.database_url))
        seeding.seed_finished(place.database_url, "copy", 5, like="real-000000")
        copy = number_of(made.engine, "copy-000004")
        assert copy > real.id > model.id
        for table in (message, body, term, attempt, item):
            expected = renamed(rows_of(made.engine, table, real.id), "copy-000004")
            found = rows_of(made.engine, table, copy)
            assert sorted(map(str, found)) == sorted(map(str, expected)), table.name
            assert found, table.name
        assert rows_of(made.engine, unindexed, copy) == []
        with made.engine.begin() as connection:
            (again,) = enqueue_many(connection, [order("copy-000004")])
        assert (again.id, again.created) == (copy, False), "enqueueing it again finds it"


def assert_all_was_sent(figure: Comparison) -> None:
    assert figure.tallies
    for each in figure.tallies:
        assert each.messages > 0
        assert (each.lost, each.duplicates) == (0, 0)
    assert min(*figure.ours, *figure.baseline) > 0


@pytest.mark.soak
def test_a_backlog_beside_finished_messages_is_timed_against_a_small_database(
    stage: Stage, watch: Watch
) -> None:
    (figure,) = history.take(stage, replace(SMALL, rounds=2), watch)
    assert_all_was_sent(figure)
    assert (len(figure.ours), figure.better, figure.target) == (2, "higher", 0.85)


@pytest.mark.soak
def test_a_drain_under_an_old_snapshot_is_timed_at_its_end_and_at_its_beginning(
    stage: Stage, watch: Watch
) -> None:
    (figure,) = snapshot.take(stage, replace(SMALL, crowd=10_000), watch)
    assert_all_was_sent(figure)
    assert figure.tallies[0].messages == 2000, "a lead, and those that count"
    assert (figure.better, figure.target) == ("higher", 0.6)


@pytest.mark.soak
def test_a_workers_memory_is_weighed_with_many_waiting_and_with_few(stage: Stage, watch: Watch) -> None:
    (figure,) = memory.take(stage, SMALL, watch)
    assert_all_was_sent(figure)
    assert (figure.unit, figure.most_added) == ("MB", 20.0)
    assert min(*figure.ours, *figure.baseline) > 50, "three processes of Python"


@pytest.mark.soak
def test_a_steady_destination_is_timed_beside_one_with_a_backlog(stage: Stage, watch: Watch) -> None:
    (figure,) = fair.take(stage, SMALL, watch)
    assert_all_was_sent(figure)
    assert figure.notes["sent to the slow destination"] > 0
    assert (figure.better, figure.target) == ("lower", 1.5)


def test_commits_are_counted_with_hints_and_without(stage: Stage, watch: Watch) -> None:
    (figure,) = hinting.take(stage, replace(SMALL, seconds=0.2), watch)
    assert len(figure.ours) == len(figure.baseline) == hinting.ROUNDS
    assert figure.notes["hints sent"] > 0
    assert (figure.better, figure.target) == ("higher", 0.85)


def test_enqueueing_many_is_timed_against_inserting_their_rows(stage: Stage, watch: Watch) -> None:
    (figure,) = bulk.take(stage, replace(SMALL, messages=200), watch)
    assert len(figure.ours) == len(figure.baseline) == bulk.ROUNDS
    assert min(*figure.ours, *figure.baseline) > 0
    assert (figure.better, figure.target) == ("higher", 0.6)


def test_a_rate_is_that_between_two_messages_of_one_kind() -> None:
    books = [("a-1", 5.0), ("b-1", 6.0), ("a-2", 1.0), ("a-3", 3.0)]
    assert moments_of(books, "a") == [1.0, 3.0, 5.0]
    assert rate_between(moments_of(books, "a"), 0, 2) == 0.5
