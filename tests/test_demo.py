"""The demo shows what it says, in numbers that add up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import load
from tests.rig import PROJECT
from worker.demo.stage import write_configuration
from worker.demo.story import SETTLE_SECONDS


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder whose path is short enough for a socket in it."""
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        yield Path(name)


def test_the_demo_delivers_buries_alerts_and_replays(folder: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "worker", "demo", "--orders", "30", "--json"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["enqueued"] == result["delivered"] + result["dead"] > 30
    assert result["dead"] == sum(result["dead_reasons"].values())
    assert {"items_failed", "http_500"} <= result["dead_reasons"].keys()
    assert result["retried"] > 0
    assert result["alerts"] >= 2
    assert result["replayed"] == 1
    assert result["lost"] == 0
    assert result["duplicates_at_receiver"] == 0
    assert result["requests"] > result["enqueued"]
    assert result["seconds"] > 0
    assert not list(folder.iterdir()), "the demo leaves nothing behind"


def test_a_letter_that_comes_after_its_alert_went_out_is_told_while_the_demo_waits(folder: Path) -> None:
    file = write_configuration(folder, "http://127.0.0.1:1", "http://127.0.0.1:2")
    reminder = load(file, need_secrets=False).settings.alerts.reminder
    assert reminder.total_seconds() < SETTLE_SECONDS / 10
