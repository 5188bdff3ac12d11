"""docs/production.md tells the truth: its SQL runs, and its figures are those of the files."""

from __future__ import annotations

import re
from datetime import timedelta

from sqlalchemy import Engine, text

from config import Settings
from tasks.children import ORPHAN_SECONDS, STOP_MARGIN_SECONDS
from tests.containers import seconds
from tests.databases import on_postgresql
from tests.deployment import read
from tests.rig import PROJECT
from worker.database import CONNECTIONS

MANUAL = (PROJECT / "docs" / "production.md").read_text()
SERVICES = read()["services"]
SQL = re.findall(r"^```sql\n(.*?)^```$", MANUAL, re.MULTILINE | re.DOTALL)
OPTIONS_OF_THE_TABLE = "SELECT reloptions FROM pg_class WHERE oid = 'outbox_message'::regclass"


@on_postgresql
def test_its_sql_runs_and_repeats_what_the_migration_did(engine: Engine) -> None:
    assert len(SQL) == 4
    with engine.begin() as connection:
        before = connection.execute(text(OPTIONS_OF_THE_TABLE)).scalar_one()
        for statement in SQL:
            connection.execute(text(statement))
        assert connection.execute(text(OPTIONS_OF_THE_TABLE)).scalar_one() == before


def test_the_server_settings_it_names_are_those_of_the_stack() -> None:
    given = dict(word.removeprefix("--").split("=") for word in SERVICES["postgres"]["command"][1:])
    told = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", MANUAL, re.MULTILINE))
    told |= dict(re.findall(r"`(autovacuum_naptime) = (\w+)`", MANUAL))
    assert told
    assert told.items() <= given.items()


def test_it_tells_of_every_service() -> None:
    assert [name for name in SERVICES if f"\n| `{name}` | " not in MANUAL] == []


def test_a_container_s_worker_has_time_for_the_longest_stop_told() -> None:
    drain = Settings().engine.drain
    longest = drain + timedelta(seconds=STOP_MARGIN_SECONDS + ORPHAN_SECONDS)
    assert f"A stop takes {longest.total_seconds():.0f} s at most" in " ".join(MANUAL.split())
    assert seconds(SERVICES["worker"]["stop_grace_period"]) > longest.total_seconds()
    assert f"TimeoutStopSec={SERVICES['worker']['stop_grace_period'].removesuffix('s')}" in MANUAL


def test_the_connections_it_counts_are_those_of_an_engine() -> None:
    assert f"| a child process of a worker | {CONNECTIONS}: " in MANUAL
