"""A disk that is full, or fails to keep what it was given: what cannot be written waits, and nothing is lost.

The leases are longer than any of it: whatever would be sent twice here would be so for no reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from orderflow_outbox import enqueue
from orderflow_outbox.sqlite import prepare
from tests.databases import on_sqlite
from tests.documents import order
from tests.postgres import FAST, Postgres
from tests.proof.checker import Evidence, repeats
from tests.proof.disk import failing_fsync, full_disk
from tests.proof.receiver import AFTER_LAST_BYTE
from tests.proof.stage import Stage, stage
from tests.rig import Place, eventually

ORDERS, KEYS, WINDOW = 16, 16, 4
DISK_MB = 160
STALL = f"{AFTER_LAST_BYTE}:1"
"""The first request is under way when the disk fails; what came of it must be written afterwards."""
UNHURRIED = {"lease": 60, "attempt_deadline": "1s"}
NO_SPACE = "No space left on device"
NO_RESULTS = "results cannot be written"
LOOKS_SECONDS = 2.0
"""Within which an engine would have looked for more, if it did."""
LARGE = order("SO-large").replace("</imports>", f"<!-- {'x' * 200_000} --></imports>")
"""A document that no page has room for."""


@on_sqlite
@pytest.mark.parametrize("failing", [full_disk, failing_fsync])
def test_results_that_a_disk_does_not_take_wait_and_are_written_afterwards(
    place: Place, failing: Callable[[int], AbstractContextManager[None]]
) -> None:
    with stage(place, STALL, **UNHURRIED) as made, made.rig.engine.connect():
        made.produce(ORDERS, KEYS)
        with made.engine() as process:
            eventually(lambda: made.received())
            with failing(process.pid):
                eventually(lambda: made.said(NO_RESULTS))
                assert_nothing_new_is_begun(made)
            seen = assert_all_is_written_afterwards(made)
            assert repeats(seen) == 1, "the request that was never answered, and no other"


def assert_nothing_new_is_begun(made: Stage) -> None:
    """Nothing that is due is claimed, though it would be each second."""
    before = [row.attempts for row in made.rig.rows()]
    made.produce(1, 1, first=ORDERS)
    assert [row.attempts for row in made.rig.rows()] == [*before, 0]


def assert_all_is_written_afterwards(made: Stage) -> Evidence:
    seen = made.assert_kept()
    assert not any(row.rescues for row in seen.messages), "each result was written by who had it"
    return seen


@on_sqlite
def test_a_shop_whose_disk_is_full_is_told_so_and_has_written_nothing(place: Place) -> None:
    with stage(place) as made:
        make_shops_table(made)
        shop = prepare(create_engine(place.database_url))
        assert_is_told_and_writes_nothing(made, shop, "database or disk is full", "PRAGMA max_page_count = 1")
        shop.dispose()


def make_shops_table(made: Stage) -> None:
    with made.rig.engine.begin() as connection:
        connection.execute(text("CREATE TABLE shop_order (name TEXT)"))
        connection.execute(text("INSERT INTO shop_order VALUES ('SO-before')"))


def assert_is_told_and_writes_nothing(made: Stage, shop: Engine, told: str, *first: str) -> None:
    """The shop's own row and its message go together, or not at all."""
    before = len(made.rig.rows())
    with shop.connect() as connection:
        for statement in (*first, "INSERT INTO shop_order VALUES ('SO-large')"):
            connection.execute(text(statement))
        with pytest.raises(OperationalError, match=told):
            enqueue(connection, "order-import", LARGE, channel="web")
        connection.rollback()
        assert connection.scalar(text("SELECT count(*) FROM shop_order")) == 1
    assert len(made.rig.rows()) == before


@pytest.fixture
def small() -> Iterator[Postgres]:
    """A server whose files lie on a small disk of their own."""
    if os.geteuid() != 0:
        pytest.skip("a small disk is a tmpfs, which only root may mount")
    server = Postgres({**dict.fromkeys(FAST, "on"), "min_wal_size": "32MB", "max_wal_size": "32MB"})
    owner = f"uid={server.as_user['user']},gid={server.as_user['group']},mode=0700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,{owner}", "tmpfs", server.data],
        check=False,
        capture_output=True,
        text=True,
    )
    try:
        if mounted.returncode:
            pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
        server.make()
        server.start()
        yield server
    finally:
        server.stop()
        subprocess.run(["umount", "--lazy", server.data], check=False, capture_output=True)
        shutil.rmtree(server.folder, ignore_errors=True)


@contextmanager
def filled(server: Postgres) -> Iterator[None]:
    """Leave a server's disk not a byte, until the block ends."""
    ballast = server.data / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024 * 1024))
    yield
    ballast.unlink()


def test_while_a_servers_disk_is_full_nothing_is_lost_sent_twice_or_half_written(
    small: Postgres, tmp_path: Path
) -> None:
    small.execute("CREATE DATABASE outbox")
    with stage(Place(tmp_path, small.url("outbox")), **UNHURRIED) as made, ExitStack() as stack:
        made.produce(1, 1)
        made.assert_all_kept()
        make_shops_table(made)
        leave_room_for_all_but_results(small)
        made.produce(ORDERS, KEYS, first=1)
        with filled(small):
            stack.enter_context(made.engine())
            eventually(lambda: made.said(NO_RESULTS))
            assert_is_told_and_writes_nothing(made, made.rig.engine, NO_SPACE)
            full_since = time.monotonic()
            eventually(lambda: time.monotonic() - full_since > LOOKS_SECONDS)
            assert len(made.received()) <= 1 + 3 * WINDOW, "what was in hand, or just being claimed"
        assert repeats(assert_all_is_written_afterwards(made)) == 0


def leave_room_for_all_but_results(server: Postgres) -> None:
    """Have the pages of each table hold more rows, but for those of attempts."""
    server.execute("ALTER TABLE outbox_attempt SET (fillfactor = 10)", "outbox")
    server.execute("VACUUM FULL outbox_attempt", "outbox")
