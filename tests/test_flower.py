"""The whole service as one command, and what Flower shows of it."""

from __future__ import annotations

import base64
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simulator import Options
from tests.databases import on_sqlite
from tests.rig import PROJECT, Place, Rig, eventually, rig


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str, login: str | None = None) -> tuple[int, bytes]:
    headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""
    except OSError:
        return 0, b""


@contextmanager
def up(made: Rig) -> Iterator[subprocess.Popen[str]]:
    with (made.folder / "up.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker", "up", "--children", "1"],
            cwd=PROJECT,
            env=made.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def processes_of(made: Rig) -> list[str]:
    """Return the command lines of processes started with this rig's configuration."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"OUTBOX_CONFIG={made.file}".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@on_sqlite
def test_every_message_is_a_row_in_flower_and_term_stops_everything(place: Place) -> None:
    port = free_port()
    options = Options(faults=["500:operation=order-import,reference=SO-BAD", "500:reference=SO-ONCE,times=1"])
    with rig(place, options, flower_port=port, retry_after=["100ms"]) as made, up(made) as service:
        base = f"http://127.0.0.1:{port}"
        file = made.folder / "state" / "flower-password"
        password = eventually(lambda: file.exists() and file.read_text().strip())
        login = f"admin:{password}"
        eventually(lambda: password in (made.folder / "up.log").read_text())
        eventually(lambda: get(f"{base}/api/workers", login)[0] == 200)
        eventually(lambda: " ready." in (made.folder / "state" / "worker.log").read_text())

        for page in ("", "workers", "tasks", "broker", "metrics", "api/tasks", "api/workers"):
            assert get(f"{base}/{page}")[0] == 401, page
        assert get(f"{base}/metrics", login)[0] == 200
        assert get(f"{base}/api/tasks", "admin:guess")[0] == 401

        expected = {}
        for reference, state in (("SO-GOOD", "SUCCESS"), ("SO-ONCE", "SUCCESS"), ("SO-BAD", "FAILURE")):
            message = made.order(reference, key=f"order:{reference}")
            expected[f"message-{message.id}"] = (reference, state)

        def rows() -> dict[str, Any]:
            status, body = get(f"{base}/api/tasks", login)
            found: dict[str, Any] = json.loads(body) if status == 200 else {}
            return {uuid: row for uuid, row in found.items() if uuid in expected}

        eventually(
            lambda: (
                {uuid: row["state"] for uuid, row in rows().items()}
                == {uuid: state for uuid, (_, state) in expected.items()}
            ),
            what="three rows in their final state",
        )
        for uuid, row in rows().items():
            reference, state = expected[uuid]
            assert row["name"] == "order-import"
            assert f"order:{reference}" in row["args"]
            assert f"'id': {uuid.removeprefix('message-')}" in row["kwargs"]
            assert row["runtime"] > 0
            assert row["retries"] == {"SO-GOOD": 0, "SO-ONCE": 1, "SO-BAD": 1}[reference]
            assert bool(row["exception"]) == (state == "FAILURE")
            assert "CDATA" not in json.dumps(row), "a payload is in no event"

        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0
        deadline = time.monotonic() + 5
        while processes_of(made) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert processes_of(made) == []


@on_sqlite
def test_flower_started_by_hand_from_another_folder_asks_for_a_password(place: Place) -> None:
    port = free_port()
    with rig(place, flower_port=port) as made:
        flower = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tasks", "flower"],
            cwd=place.folder,
            env={**made.environment, "PYTHONPATH": str(PROJECT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: get(f"http://127.0.0.1:{port}/")[0])
            assert get(f"http://127.0.0.1:{port}/")[0] == 401
            assert get(f"http://127.0.0.1:{port}/api/tasks")[0] == 401
        finally:
            flower.terminate()
            flower.wait(10)


@on_sqlite
def test_up_says_in_one_line_what_keeps_it_from_starting(place: Place) -> None:
    with rig(place) as made:
        made.engine.dispose()
        (place.folder / "outbox.db").unlink()
        done = subprocess.run(
            [sys.executable, "-m", "worker", "up"],
            cwd=PROJECT,
            env=made.environment,
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "python -m worker db upgrade" in done.stderr
