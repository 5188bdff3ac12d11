"""Statements that PostgreSQL plans once: in an engine's own sessions, never through a pooler."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import Mock

import pytest
from psycopg.pq import TransactionStatus
from pydantic import SecretStr
from sqlalchemy import Engine, text

from config import load
from tests import pgbouncer
from tests.databases import Databases, on_postgresql
from tests.rig import Place, rig
from tests.statements import statements
from worker.database import connect
from worker.ports import announce_nothing, wake_nobody
from worker.service import build_engine
from worker.store import preparing
from worker.store.claiming import next_due
from worker.store.preparing import PLANNED_ANEW_SECONDS
from worker.store.transactions import Store

pytestmark = on_postgresql

OFTEN = 20
SOCKET = ".s.PGSQL.5432"
PREPARED = (
    "SELECT coalesce(sum(generic_plans), 0) FROM pg_prepared_statements WHERE statement LIKE '%due_at%'"
)


@contextmanager
def reaching(url: str, prepares: bool = True) -> Iterator[Engine]:
    engine = connect(SecretStr(url), prepares=prepares)
    yield engine
    engine.dispose()


def look_often(engine: Engine) -> None:
    store = Store(engine)
    for _ in range(OFTEN):
        with store.reading() as transaction:
            next_due(transaction, "main")


def used_plans(engine: Engine) -> int:
    """Return how often a plan has served that was made before."""
    with engine.begin() as connection:
        return int(connection.execute(text(PREPARED)).scalar_one())


def test_what_an_engine_looks_for_again_and_again_is_planned_once(database_url: str) -> None:
    with reaching(database_url) as engine:
        look_often(engine)
        assert used_plans(engine) >= OFTEN - 2 * preparing.PREPARED_AFTER - 1


def test_a_workers_engine_is_one_that_does(place: Place) -> None:
    with rig(place) as made:
        store = build_engine(load(made.file), wake_nobody, announce_nothing)._store
        look_often(store._writers)
        assert used_plans(store._writers) > 0
        store.close()


def test_a_transaction_that_fails_costs_the_plans_alone(database_url: str) -> None:
    with reaching(database_url) as engine:
        look_often(engine)
        with pytest.raises(ZeroDivisionError), Store(engine).reading():
            raise ZeroDivisionError
        look_often(engine)
        assert used_plans(engine) > 0


def test_whoever_does_not_ask_for_it_prepares_nothing(database_url: str) -> None:
    with reaching(database_url, prepares=False) as engine:
        look_often(engine)
        assert used_plans(engine) == 0


@pytest.mark.skipif(
    pgbouncer.program() is None, reason="PgBouncer is not installed: install it to have this run"
)
def test_through_pgbouncer_nothing_is_prepared(database_url: str, databases: Databases) -> None:
    with pgbouncer.pooler(databases.server) as folder:
        address = database_url.partition("?")[0]
        with reaching(f"{address}?host={folder}&port={pgbouncer.PORT}") as engine:
            look_often(engine)
            assert used_plans(engine) == 0


def test_through_whatever_names_another_process_nothing_is_prepared(
    database_url: str, databases: Databases, tmp_path: Path
) -> None:
    there, here = databases.server.socket, tmp_path
    with (
        renaming_its_process(there / SOCKET, here / SOCKET),
        reaching(f"{database_url.partition('?')[0]}?host={here}") as engine,
    ):
        look_often(engine)
        assert used_plans(engine) == 0


def test_plans_are_made_anew_once_they_are_old(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Mock(monotonic=Mock(return_value=0.0))
    monkeypatch.setattr(preparing, "time", clock)
    with reaching(database_url) as engine:
        for now, discarded in ((0, 0), (PLANNED_ANEW_SECONDS - 1, 0), (PLANNED_ANEW_SECONDS, 1)):
            clock.monotonic.return_value = now
            with statements(engine) as seen:
                look_often(engine)
            assert seen.count("DISCARD PLANS") == discarded
        before = used_plans(engine)
        look_often(engine)
        assert used_plans(engine) >= before + OFTEN


def test_the_first_transaction_of_a_session_begins_like_any_other(database_url: str) -> None:
    with reaching(database_url) as engine, engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        assert driver.info.transaction_status is TransactionStatus.IDLE


@contextmanager
def renaming_its_process(server: Path, front: Path) -> Iterator[None]:
    """Stand before a server as a pooler does, which names another process than the server's."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(front))
        listening.listen()
        threading.Thread(target=_relay_all, args=(listening, server), daemon=True).start()
        yield
        listening.shutdown(socket.SHUT_RDWR)


def _relay_all(listening: socket.socket, server: Path) -> None:
    with suppress(OSError):
        while True:
            client, _ = listening.accept()
            behind = socket.socket(socket.AF_UNIX)
            behind.connect(str(server))
            for source, sink, renames in ((client, behind, False), (behind, client, True)):
                threading.Thread(target=_relay, args=(source, sink, renames), daemon=True).start()


def _relay(source: socket.socket, sink: socket.socket, renames: bool) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            # BackendKeyData: its kind, its length, and then the process.
            place = data.find(b"K\x00\x00\x00\x0c") if renames else -1
            if place >= 0:
                data = data[: place + 5] + b"\x00\x00\x00\x01" + data[place + 9 :]
                renames = False
            sink.sendall(data)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
