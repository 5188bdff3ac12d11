"""The demo shows what it says, in numbers that add up."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from config import load
from tests.clones import clone_into, environment_of
from tests.rig import PROJECT
from tests.shell import Shell
from worker import demo
from worker.demo.stage import write_configuration
from worker.demo.story import SETTLE_SECONDS

NAMES = ("enqueued", "delivered", "dead", "alerts", "replayed", "requests", "lost", "duplicates")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder whose path is short enough for a socket in it."""
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        yield Path(name)


def test_the_demo_delivers_buries_alerts_and_replays(folder: Path, tmp_path: Path) -> None:
    clone = clone_into(tmp_path / "clone")
    environment = {**environment_of(clone), "TMPDIR": str(folder), "COLUMNS": "200"}
    done = subprocess.run(
        ["make", "demo"], cwd=clone, env=environment, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown = re.findall(rf"^({'|'.join(NAMES)}) +(\d+) +(.+?) *$", done.stdout, re.MULTILINE)
    counts, remarks = {name: int(n) for name, n, _ in shown}, {name: remark for name, _, remark in shown}
    assert counts["enqueued"] == counts["delivered"] + counts["dead"] > 60
    reasons = {reason: int(n) for n, reason in re.findall(r"(\d+) × (\w+)", remarks["dead"])}
    assert counts["dead"] == sum(reasons.values())
    assert {"items_failed", "http_500"} <= reasons.keys()
    assert int(remarks["delivered"].split()[0]) > 0, "some needed more than one attempt"
    assert counts["alerts"] >= 2
    assert '"cause": "dead-letters"' in done.stdout, "the first alert, as it was sent"
    assert counts["replayed"] == 1
    assert counts["lost"] == counts["duplicates"] == 0
    assert counts["requests"] > counts["enqueued"]
    assert float(done.stdout.splitlines()[-1].removesuffix(" s")) > 0
    assert not list(folder.iterdir()), "the demo leaves nothing behind"


@pytest.mark.soak
def test_a_smaller_demo_is_told_to_a_machine(folder: Path) -> None:
    command = [sys.executable, "-m", "worker", "demo", "--orders", "30", "--json"]
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert '"replayed": 1' in done.stdout.splitlines()[-1]
    assert not list(folder.iterdir())


@pytest.mark.parametrize(("lost", "duplicates", "status"), [(0, 0, 0), (1, 0, 1), (0, 1, 1)])
def test_what_was_lost_or_taken_in_twice_makes_the_demo_fail(
    lost: int,
    duplicates: int,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reckoned: dict[str, Any] = dict.fromkeys(("enqueued", "delivered", "retried", "dead", "alerts"), 3)
    summary = demo.Summary(
        **reckoned,
        dead_reasons={"http_500": 3},
        replayed=1,
        lost=lost,
        duplicates_at_receiver=duplicates,
        requests=9,
        seconds=1.0,
    )
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(demo, "run", lambda *_: (summary, None))
    told = Shell(capsys).any("demo", "--orders", "30", "--json")
    assert (told.status, told.json) == (status, asdict(summary))


def test_a_letter_that_comes_after_its_alert_went_out_is_told_while_the_demo_waits(folder: Path) -> None:
    file = write_configuration(folder, "http://127.0.0.1:1", "http://127.0.0.1:2")
    reminder = load(file, need_secrets=False).settings.alerts.reminder
    assert reminder.total_seconds() < SETTLE_SECONDS / 10
