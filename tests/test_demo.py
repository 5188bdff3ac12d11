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

from tests.rig import PROJECT


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
