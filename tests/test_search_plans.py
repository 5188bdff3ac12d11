"""What a search reads: by indexes alone, and no more for a long history than for a short one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from bench.searching import by_terms, by_text, fill
from tests.databases import Databases, on_sqlite
from tests.plans import planned
from tests.test_schema import plans_of
from worker.database import connect
from worker.search.finding import find
from worker.search.language import parse
from worker.store import searching, seeking
from worker.store.transactions import Store

SHORT, LONG = 900, 2_700
NAME = "SO-0000777"
LINES = [
    *by_terms(NAME),
    *by_text(NAME),
    f"{NAME} state:dead",
    f"request:{NAME} in:dead",
    "state:dead",
    "state:pending",
    "state:sending destination:main",
    "replay-of:7",
    "id:777 reply:item",
    "after:1h",
    "",
]
TABLES = ("outbox_message", "outbox_term", "outbox_attempt", "outbox_full_text", "outbox_dead_letter")
A_FEW_STEPS = 1500
"""Blocks that the steps of a search and its looks at each message may take, whatever the history."""


def filled(databases: Databases, count: int) -> Engine:
    engine = connect(SecretStr(databases.server.url(databases.take())))
    fill(engine, count, with_texts=True)
    return engine


@pytest.fixture(scope="module")
def short(databases: Databases) -> Iterator[Engine]:
    engine = filled(databases, SHORT)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def long(databases: Databases) -> Iterator[Engine]:
    engine = filled(databases, LONG)
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make steps as much smaller as the histories here are."""
    for room in (seeking, searching):
        monkeypatch.setattr(room, "AT_ONCE", 50)
    monkeypatch.setattr(seeking, "NEWEST_TEXTS", 100)
    monkeypatch.setattr(searching, "WALKED_AT_ONCE", 100)


def search(engine: Engine, line: str) -> None:
    assert not find(Store(engine), parse(line), 20, seconds=60).out_of_time


@pytest.mark.parametrize("line", LINES)
def test_on_postgresql_no_search_reads_a_whole_table_or_more_because_of_the_history(
    short: Engine, long: Engine, line: str
) -> None:
    before = planned(short, lambda: search(short, line))
    after = planned(long, lambda: search(long, line))
    bad = [
        f"{table}: {each.statement}"
        for each in after
        for plan in (each.custom, each.generic)
        for table in TABLES
        if "everything" in each.scans(plan, table)
    ]
    assert not bad, "\n".join(bad)
    assert sum(each.blocks for each in after) <= 1.5 * sum(each.blocks for each in before) + A_FEW_STEPS


def test_on_postgresql_a_rare_text_is_found_by_its_trigrams(long: Engine) -> None:
    statements = planned(long, lambda: search(long, f'"{NAME}" operation:order-import'))
    (asked,) = (each for each in statements if "MATERIALIZED" in each.statement)
    for plan in (asked.custom, asked.generic):
        assert asked.scans(plan, "outbox_full_text") == {"outbox_full_text_trigrams"}


@on_sqlite
def test_on_sqlite_no_search_reads_a_whole_table(engine: Engine) -> None:
    fill(engine, 300, with_texts=True)
    for line in LINES:
        for statement, plan in plans_of(engine, lambda line=line: search(engine, line)):
            # Of dead letters it gathers so many at most.
            tables = tuple(f"SCAN {table}" for table in TABLES if table != "outbox_dead_letter")
            read = [each for each in plan.splitlines() if each.startswith(tables)]
            assert all(" INDEX " in each for each in read), f"{line}: {statement}: {plan}"
