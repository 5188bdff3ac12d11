"""Flower and the whole service without what they need: nobody gets in, and what is amiss is said."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.databases import on_sqlite
from tests.flowers import Visitor, get, login_of
from tests.rig import PROJECT, Place, Rig, eventually, free_port, rig
from tests.shell import Shell

REVOKE = "/api/task/revoke/message-1"


@contextmanager
def flower(made: Rig, folder: Path, *options: str) -> Iterator[None]:
    """Start Flower by hand, from another folder than ours."""
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "tasks", "flower", *options],
        cwd=folder,
        env={**made.environment, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait(10)


@on_sqlite
def test_flower_started_by_hand_without_a_database_is_closed_to_strangers_and_says_what_is_amiss(
    place: Place,
) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    with rig(place, flower_port=port) as made, flower(made, place.folder, "--read_only"):
        made.engine.dispose()
        (place.folder / "outbox.db").unlink()
        eventually(lambda: get(f"{base}/")[0])
        assert get(f"{base}/")[0] == 401
        assert get(f"{base}/api/tasks")[0] == 401
        admin = Visitor(base, login_of(made))
        page = admin.get("/dead-letters")
        assert page.status == 200
        assert "python -m worker db upgrade" in page.text
        assert "Traceback" not in page.text
        for refused in (admin.press("discard", "a test", message=1), admin.ask("POST", REVOKE)):
            assert refused.status == 403
            assert "Read only mode is enabled" in refused.text
        assert_nobody_waits_for_a_database_that_hangs(made, admin)


def assert_nobody_waits_for_a_database_that_hangs(made: Rig, admin: Visitor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as asking:
        hanging = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/none"
        made.file.write_text(made.file.read_text().replace(made.database_url, hanging))
        page = asking.submit(admin.get, "/dead-letters")
        with silent.accept()[0]:
            assert get(f"{admin.base}/healthcheck")[0] == 200
            assert not page.done(), "Flower answers others while this page waits"
        assert "the database" in page.result().text


@on_sqlite
def test_up_says_in_one_line_what_keeps_it_from_starting(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with rig(place) as made:
        made.engine.dispose()
        (place.folder / "outbox.db").unlink()
        monkeypatch.delenv("OUTBOX_DATABASE_URL")
        monkeypatch.setenv("OUTBOX_CONFIG", str(made.file))
        told = Shell(capsys).any("up")
    assert told.status == 1
    assert told.err.count("\n") == 1
    assert "python -m worker db upgrade" in told.err
