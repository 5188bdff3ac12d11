"""The README tells the truth: its commands run, its code is the example's, its figures are computed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import config
import orderflow_outbox
from config import in_words
from tests.rig import PROJECT, eventually

README = (PROJECT / "README.md").read_text()
PATIENCE_SECONDS = 120
"""What ends within a minute may take twice as long while other tests run."""
BLOCK = re.compile(
    r"^```(?P<kind>sh|python|text)(?P<how> \w+)?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
READY = {"python -m simulator": " ready on ", "python -m worker up": "stop with Ctrl-C"}
NOT_RUN = {"make test"}
"""Runs this very test."""


def blocks(kind: str, how: str = "") -> list[str]:
    return [
        m["text"] for m in BLOCK.finditer(README) if m["kind"] == kind and (m["how"] or "").strip() == how
    ]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the project's own files, with this virtual environment in its place."""
    folder = tmp_path / "clone"
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    for name in filter(None, names):
        if (PROJECT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    (folder / ".venv").symlink_to(PROJECT / ".venv")
    return folder


@contextmanager
def servers(clone: Path, environment: dict[str, str]) -> Iterator[None]:
    running = []
    try:
        for command in (block.strip() for block in blocks("sh", "server")):
            log = clone / f"server-{len(running)}.log"
            with log.open("w") as output:
                running.append(
                    subprocess.Popen(
                        ["bash", "-c", f"source .venv/bin/activate && exec {command}"],
                        cwd=clone,
                        env=environment,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
            eventually(lambda log=log, command=command: READY[command] in log.read_text(), what=command)
        yield
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(30)


@pytest.mark.timeout(300)
def test_every_command_runs_in_the_order_given(clone: Path) -> None:
    scripts = blocks("sh")
    first_server = README.index("```sh server")
    before = [script for script in scripts if README.index(script) < first_server]
    after = [script for script in scripts if README.index(script) > first_server]
    assert before
    assert after
    environment = {
        **{k: v for k, v in os.environ.items() if k in {"PATH", "LANG", "TMPDIR"}},
        "HOME": str(clone.parent),
        "ORDERFLOW_MAIN_PASSWORD": "demo",
        "USER": "reader",
    }

    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-e", "-c", f"source .venv/bin/activate\n{script}"],
            cwd=clone,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    for script in before:
        run(script)
    with servers(clone, environment):
        assert "order SO-1001 is message 1" in run(after[0])
        eventually(lambda: "message 1 delivered" in run("python -m worker show 1"), 15)
        for script in after[1:]:
            run(script)
        eventually(lambda: '"pending": 0' in run("python -m worker status --json"), 15)
        assert '"delivered": 3' in run("python -m worker status --totals --json")


def test_what_is_not_run_takes_longer_than_a_minute_or_never_ends() -> None:
    assert {block.strip() for block in blocks("sh", "slow")} == NOT_RUN
    assert {block.strip() for block in blocks("sh", "server")} == READY.keys()


def test_the_shop_shown_is_the_example() -> None:
    assert (PROJECT / "examples" / "shop.py").read_text().strip() in README


def test_the_patience_told_is_the_patience_configured() -> None:
    main = config.load().destinations["main"]
    for operation, name in (("order-cancel", "order-cancel"), ("order-import", "all others")):
        policy = main.retry_policy(operation)
        assert f"| {name} | {policy.tries} | {in_words(policy.last_try_after)} |" in README


def test_every_operation_and_make_target_named_exists() -> None:
    for name in orderflow_outbox.PREDEFINED:
        assert f"`{name}`" in README
    targets = set(re.findall(r"make ([a-z]+)", README)) - {"and", "the", "of"}
    makefile = (PROJECT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in targets & {"demo", "test", "setup", "help", "lint"})
