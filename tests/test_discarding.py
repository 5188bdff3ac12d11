"""Many dead letters discarded: those that were counted, as far as time allows."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from orderflow_outbox.tables import audit, dead_letter, incident
from tests.steps import Clock, bury, rows
from worker import discarding
from worker.by_hand import discard
from worker.discarding import Discarded, count, discard_many
from worker.store.finding import Filter
from worker.store.transactions import Store

MISSING = Filter(reason="no_such_article")


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


def resolutions(engine: Engine) -> list[str]:
    return [each["resolution"] for each in rows(engine, dead_letter)]


def test_those_that_were_counted_are_discarded_and_none_that_died_since(
    engine: Engine, store: Store, clock: Clock
) -> None:
    for reason in ("no_such_article", "http_500", "no_such_article", "no_such_article"):
        bury(store, engine, reason)
    counted = count(store, MISSING)
    assert counted.number == 3
    discard(store, 1, "ann", "by itself")
    clock.forward(timedelta(seconds=1))
    bury(store, engine, "no_such_article")
    assert discard_many(store, MISSING, counted, "bob", "a test", seconds=60) == Discarded(2, 0)
    assert resolutions(engine) == ["discarded", "open", "discarded", "discarded", "open"]
    written = [(each["verb"], each["message_id"], each["by"], each["why"]) for each in rows(engine, audit)]
    assert written == [
        ("discard", 1, "ann", "by itself"),
        ("discard", 3, "bob", "a test"),
        ("discard", 4, "bob", "a test"),
    ]


def test_never_more_are_discarded_than_were_counted(engine: Engine, store: Store) -> None:
    bury(store, engine)
    counted = count(store, Filter())
    bury(store, engine)  # in the same moment
    assert discard_many(store, Filter(), counted, "bob", "a test", seconds=60).number == 1
    assert resolutions(engine) == ["discarded", "open"]


def test_when_time_is_over_the_rest_is_left_and_done_when_asked_again(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discarding, "BATCH", 2)
    for _ in range(5):
        bury(store, engine)
    ticks = itertools.count()
    counted = count(store, Filter())
    first = discard_many(
        store, Filter(), counted, "bob", "a test", seconds=2, monotonic=lambda: float(next(ticks))
    )
    assert first == Discarded(4, 1)
    rest = discarding.Counted(first.left, counted.until)
    assert discard_many(store, Filter(), rest, "bob", "a test", seconds=2) == Discarded(1, 0)
    assert set(resolutions(engine)) == {"discarded"}
    (only,) = rows(engine, incident)
    assert only["resolved_at"] is not None
