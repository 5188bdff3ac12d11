"""The README tells the truth: its commands run, its code is the example's, its figures are computed."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import pytest

import config
import orderflow_outbox
from config import in_words
from tests import nursery
from tests.clones import clone_into, environment_of
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
RUN_ELSEWHERE = ["make demo\n"]
"""By the demo's own test, in a clone as this is."""
PLAIN = re.compile(r"python -m (worker [^$`|;&<>()*?#\\]+)")
"""A command of ours that needs no shell: it needs no new Python either."""


def blocks(kind: str, how: str = "") -> list[str]:
    return [
        m["text"] for m in BLOCK.finditer(README) if m["kind"] == kind and (m["how"] or "").strip() == how
    ]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return clone_into(tmp_path / "clone")


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


def in_a_shell(script: str, clone: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-e", "-c", f"source .venv/bin/activate\n{script}"],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )


def told_by(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(300)
def test_every_command_runs_in_the_order_given(clone: Path) -> None:
    scripts = [script for script in blocks("sh") if script not in RUN_ELSEWHERE]
    first_server = README.index("```sh server")
    before = [script for script in scripts if README.index(script) < first_server]
    after = [script for script in scripts if README.index(script) > first_server]
    assert before
    assert after
    environment = {**environment_of(clone), "ORDERFLOW_MAIN_PASSWORD": "demo"}

    def run(script: str) -> str:
        told = ""
        for plain, lines in groupby(script.splitlines(), PLAIN.fullmatch):
            if plain:
                told += told_by(nursery.run(*shlex.split(plain[1]), env=environment, cwd=clone))
            else:
                told += told_by(in_a_shell("\n".join(lines), clone, environment))
        return told

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
    assert {*RUN_ELSEWHERE} <= {*blocks("sh")}


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
