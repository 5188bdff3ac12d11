"""The database crashes, has no connection left, gives way to its standby: nothing committed is lost."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from tests.postgres import FAST, USER, Postgres
from tests.proof.checker import repeats
from tests.proof.disk import failing_fsync
from tests.proof.stage import Stage, stage
from tests.rig import Place, eventually

DURABLE = dict.fromkeys(FAST, "on")
CONNECTIONS = 16
FULL = "too many clients already"
ENGINES = 2
ORDERS = 60


@pytest.fixture(scope="module")
def durable() -> Iterator[Postgres]:
    """A server that keeps what it confirms, and has few connections."""
    with Postgres.running({**DURABLE, "max_connections": str(CONNECTIONS)}) as server:
        yield server


@contextmanager
def in_traffic(place: Place, orders: int = ORDERS) -> Iterator[Stage]:
    """A shop that commits and engines that deliver; the block comes in their midst, and they go on after."""
    with stage(place, lease=3, attempt_deadline="1s") as made, ExitStack() as stack:
        shop = made.shop(orders, orders // 3)
        for _ in range(ENGINES):
            stack.enter_context(made.engine())
        eventually(lambda: len(made.received()) >= ORDERS // 10)
        yield made
        made.rig.engine.dispose()  # the test's own connections were cut as well
        assert shop.wait(600) == 0
        seen = made.assert_kept()
        assert repeats(seen) <= sum(row.rescues for row in seen.messages)
        assert len(seen.committed) == len(seen.messages) == orders


def begun_again(server: Postgres) -> bool:
    """Start a server; what is left of one that was killed may still be ending, and keeps the next from it."""
    try:
        server.start()
    except psycopg.OperationalError:
        return False
    return True


def crash(server: Postgres, how: signal.Signals) -> None:
    server.stop(how)
    eventually(lambda: begun_again(server), what="a server that starts")


def test_a_crash_of_the_database_in_the_middle_of_traffic_loses_nothing(
    durable: Postgres, tmp_path: Path
) -> None:
    durable.execute("CREATE DATABASE crashed")
    with in_traffic(Place(tmp_path, durable.url("crashed"))):
        crash(durable, signal.SIGKILL)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_many_crashes_of_the_database_lose_nothing(durable: Postgres, tmp_path: Path) -> None:
    durable.execute("CREATE DATABASE storm")
    with in_traffic(Place(tmp_path, durable.url("storm")), orders=1_000):
        for _ in range(10):
            time.sleep(secrets.randbelow(1000) / 1000)
            crash(durable, secrets.choice([signal.SIGQUIT, signal.SIGKILL]))


@pytest.mark.soak
def test_a_server_that_cannot_keep_what_it_writes_stops_and_has_lost_nothing(tmp_path: Path) -> None:
    with Postgres.running(DURABLE) as server:
        server.execute("CREATE DATABASE outbox")
        with in_traffic(Place(tmp_path, server.url("outbox"))):
            with failing_fsync(*server.processes()):
                eventually(lambda: server.said("PANIC:  could not f"), what="a server that gives up")
            crash(server, signal.SIGKILL)


def test_without_a_connection_left_all_wait_and_go_on_by_themselves(
    durable: Postgres, tmp_path: Path
) -> None:
    durable.execute("CREATE DATABASE crowded")
    with in_traffic(Place(tmp_path, durable.url("crowded"))) as made, crowd(durable) as take_all:
        eventually(lambda: take_all() and made.said("the database does not answer"))
        made.rig.engine.dispose()
        with pytest.raises(OperationalError, match=FULL):
            made.rig.order("SO-turned-away")


@contextmanager
def crowd(server: Postgres) -> Iterator[Callable[[], bool]]:
    """Clients that drive others out of their connections; once asked they take all, and say so."""
    dsn = f"{server.dsn('postgres')} application_name=crowd"
    others = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> 'crowd'"
    with ExitStack() as stack:
        first = stack.enter_context(psycopg.connect(dsn, autocommit=True))

        def take_all() -> bool:
            first.execute(f"SELECT pg_terminate_backend(pid) {others}")
            with suppress(psycopg.OperationalError):
                while True:
                    stack.enter_context(psycopg.connect(dsn))
            return first.execute(f"SELECT {others}").fetchone() is None

        yield take_all


def test_a_standby_that_takes_over_has_all_that_was_confirmed(tmp_path: Path) -> None:
    with Postgres.running(DURABLE) as primary, Postgres.following(primary, DURABLE) as standby:
        primary.execute("CREATE DATABASE outbox")
        hosts = "&".join(f"host={each.socket}" for each in (primary, standby))
        url = f"postgresql+psycopg://{USER}@/outbox?{hosts}&target_session_attrs=read-write"
        with in_traffic(Place(tmp_path, url)):
            primary.stop(signal.SIGKILL)
            standby.execute("SELECT pg_promote()")
