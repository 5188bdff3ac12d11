"""A dry run: what a replay of many would come to; and dead letters grouped by their cause."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from config import Configuration
from orderflow_outbox import Catalogue, Operation, enqueue
from orderflow_outbox.tables import body, dead_letter, message
from tests.databases import on_sqlite
from tests.steps import (
    DAY,
    DELIVERED,
    REFUSED,
    SECOND,
    Clock,
    bury,
    configuration,
    finish,
    put,
    row,
    rows,
    set_row,
)
from tests.test_schemas import SCHEMA
from worker.by_hand import NotPossible, discard, hold
from worker.indexer import index_some
from worker.replays.replaying import replay
from worker.replays.surveying import EXAMPLES, Finding, Survey, survey
from worker.store import surveying
from worker.store.finding import Filter
from worker.store.transactions import Store

PRICES = Catalogue([Operation("price", "price.xml", None, "price", supersedes=("price",))])


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


def found(made: Survey) -> dict[Finding, list[int]]:
    return {finding: [number for number, _ in each.examples] for finding, each in made.found.items()}


def surveyed(store: Store, settings: Configuration | None = None, **wanted: Any) -> Survey:
    return survey(store, Filter(**wanted), settings or configuration())


def test_each_message_is_counted_by_what_is_in_its_way(engine: Engine, store: Store, clock: Clock) -> None:
    ready = bury(store, engine)
    passed = bury(store, engine, expires_at=clock.now + DAY)
    doubtful = put(engine)
    finish(store, REFUSED, in_doubt=True)
    foreign, unknown = bury(store, engine), bury(store, engine)
    set_row(engine, foreign, destination="old")
    set_row(engine, unknown, operation="of-old")
    replayed, discarded = bury(store, engine), bury(store, engine)
    new = replay(store, replayed, "ann", "mended").replay
    discard(store, discarded, "ann", "test order")
    clock.forward(DAY + SECOND)
    made = surveyed(store)
    assert (made.total, made.sendable) == (5, 3)
    assert found(made) == {
        Finding.READY: [ready],
        Finding.EXPIRED: [passed],
        Finding.IN_DOUBT: [doubtful],
        Finding.NOT_CONFIGURED: [foreign],
        Finding.UNKNOWN_OPERATION: [unknown],
    }
    named = surveyed(store, ids=(ready, replayed, discarded, new, 4711))
    assert (named.total, named.sendable) == (5, 1)
    assert {finding: each.examples for finding, each in named.found.items()} == {
        Finding.READY: [(ready, "")],
        Finding.REPLAYED: [(replayed, f"as message {new}, which is pending")],
        Finding.DISCARDED: [(discarded, "it was discarded")],
        Finding.NOT_DEAD: [(new, "it is pending")],
        Finding.NOT_THERE: [(4711, "there is no such message")],
    }


def test_what_waits_for_its_destination_or_its_elder_is_told(engine: Engine, store: Store) -> None:
    elder = bury(store, engine, key="order:1")
    set_row(engine, elder, blocks=False)
    younger = bury(store, engine, key="order:1")
    set_row(engine, elder, blocks=True)
    assert found(surveyed(store)) == {Finding.READY: [elder], Finding.BLOCKED: [younger]}
    hold(store, "main", "ann", "their night")
    made = surveyed(store)
    assert found(made) == {Finding.SHUT: [elder, younger], Finding.BLOCKED: [younger]}
    assert (made.sendable, made.found[Finding.SHUT].examples[0][1]) == (2, "main is held")


@pytest.mark.parametrize("delivered", [True, False])
@pytest.mark.parametrize("versions", [(None, None), (7, 8), (8, 7)])
def test_a_survey_finds_obsolete_what_a_replay_would_refuse(
    engine: Engine, store: Store, delivered: bool, versions: tuple[int | None, int | None]
) -> None:
    settings = replace(configuration(), catalogue=PRICES)
    old = _price(engine, versions[0])
    finish(store, REFUSED)
    set_row(engine, old, blocks=False)
    new = _price(engine, versions[1])
    if delivered and row(engine, new)["state"] == "pending":
        finish(store, DELIVERED)
    while index_some(store):
        pass
    made = surveyed(store, settings)
    if versions == (8, 7):
        assert found(made) == {Finding.READY: [old]}
        assert replay(store, old, "ann", "mended", catalogue=PRICES).created
        return
    assert found(made) == {Finding.OBSOLETE: [old]}
    with pytest.raises(NotPossible) as refused:
        replay(store, old, "ann", "mended", catalogue=PRICES)
    assert made.found[Finding.OBSOLETE].examples[0][1] in str(refused.value)


def _price(engine: Engine, version: int | None) -> int:
    with engine.begin() as connection:
        return enqueue(connection, "price", "<price/>", key="sku:1", version=version, catalogue=PRICES).id


def test_what_its_schema_would_refuse_is_found_unless_it_may_have_been_carried_out(
    engine: Engine, store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "order.xsd"
    file.write_text(SCHEMA)
    settings = replace(configuration(), schemas={"order-import": file})
    good = bury(store, engine)
    bad = "<imports><import type='order' operation='insert' externalReference='SO-1' more='x'/></imports>"
    unfit = bury(store, engine, payload=bad)
    doubtful = put(engine, payload=bad)
    finish(store, REFUSED, in_doubt=True)
    made = surveyed(store, settings)
    assert found(made) == {
        Finding.READY: [good],
        Finding.UNFIT: [unfit],
        Finding.IN_DOUBT: [doubtful],
    }
    assert "The attribute 'more' is not allowed" in made.found[Finding.UNFIT].examples[0][1]


def test_a_survey_of_an_incident_counts_its_letters_alone(engine: Engine, store: Store) -> None:
    bury(store, engine)
    other = bury(store, engine, reason="not_understood")
    incident = rows(engine, dead_letter, message_id=other)[0]["incident_id"]
    assert found(surveyed(store, incident=incident)) == {Finding.READY: [other]}
    assert surveyed(store, incident=incident, reason="items_failed").total == 0


@on_sqlite
def test_a_survey_of_very_many_keeps_numbers_and_a_few_examples(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = 2000
    monkeypatch.setattr(surveying, "BATCH", 50)
    _many(engine, store, number)
    surveyed(store, ids=(1,))  # what is kept once and for all
    tracemalloc.start()
    made = surveyed(store)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (made.total, made.found[Finding.READY].number) == (number, number)
    assert len(made.found[Finding.READY].examples) == EXAMPLES
    assert most < 600_000, "a batch of them, not all"


def test_groups_are_counted_by_cause_the_largest_first(engine: Engine, store: Store, clock: Clock) -> None:
    bury(store, engine, reason="not_understood")
    clock.forward(SECOND)
    first = clock.now
    bury(store, engine)
    clock.forward(SECOND)
    last = put(engine)
    finish(store, REFUSED, in_doubt=True)
    gone = bury(store, engine, reason="http_400")
    discard(store, gone, "ann", "test order")
    with store.reading() as look:
        groups = surveying.groups(look, Filter())
        assert surveying.groups(look, Filter(reason="not_understood")) == groups[1:]
    larger, smaller = groups
    assert (larger.destination, larger.operation, larger.reason) == ("main", "order-import", "items_failed")
    assert (larger.number, larger.in_doubt, larger.oldest, larger.newest) == (2, 1, first, clock.now)
    assert (larger.example, larger.text) == (last, "as the reply said")
    assert (smaller.number, smaller.reason, smaller.text) == (1, "not_understood", "bad article")


def _many(engine: Engine, store: Store, number: int) -> None:
    """Make dead letters like the first one, so many that dying one by one would take too long."""
    first = bury(store, engine)
    like, letter = dict(row(engine, first)), dict(rows(engine, dead_letter)[0])
    ids = [first + n for n in range(1, number)]
    bodies = rows(engine, body)
    with engine.begin() as connection:
        same = {**like, "position": 0}
        connection.execute(
            insert(message), [{**same, "id": each, "idempotency_key": f"k-{each}"} for each in ids]
        )
        connection.execute(insert(body), [{**dict(bodies[0]), "message_id": each} for each in ids])
        connection.execute(insert(dead_letter), [{**letter, "message_id": each} for each in ids])
