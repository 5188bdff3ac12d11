"""A program of the nursery is a process like any other: nobody can tell it from one of a new Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.nursery import PROJECT, Program, run

MODULE = "tests.nursery.looking"
PIPES: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)


@pytest.mark.parametrize("leads", [False, True])
def test_it_finds_what_a_new_python_finds(leads: bool) -> None:
    environment = {**os.environ, "TZ": "Asia/Tokyo", "ITS_OWN": "\udcff"}
    del environment["OUTBOX_STATE_DIR"], environment["PATH"]
    how: dict[str, Any] = {**PIPES, "env": environment, "start_new_session": leads, "text": True}
    fresh = subprocess.Popen([sys.executable, "-m", MODULE, "0", "wörd", "\udcff"], cwd=PROJECT, **how)
    born = Program[str](MODULE, "0", "wörd", "\udcff", **how)
    told = []
    for process in (fresh, born):
        out, err = process.communicate("given", 30)
        assert (process.returncode, err) == (0, "")
        first, last = out.splitlines()
        assert last == "ended in order"
        told.append(json.loads(first))
    assert told[0] == told[1]
    assert told[0]["leads"] is leads


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_it_is_stopped_waited_for_and_ended_by_signals(number: signal.Signals) -> None:
    program = Program[bytes](MODULE, "wait", stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert program.stdout is not None
        program.stdout.readline()
        os.killpg(program.pid, signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(0.01)
        assert program.poll() is None
        os.killpg(program.pid, signal.SIGCONT)
        program.send_signal(number)
        assert program.wait(10) == program.poll() == -number
    finally:
        program.kill()  # harmless, as of any that has ended


def test_its_end_is_told_among_many_signals() -> None:
    for _ in range(10):
        program = Program[str](MODULE, "wait", stdout=subprocess.PIPE, text=True)
        assert program.stdout is not None
        program.stdout.readline()
        nursery = int(Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()[1])
        program.kill()
        while program.poll() is None:
            os.kill(nursery, signal.SIGCHLD)
        assert program.returncode == -signal.SIGKILL


def test_its_exit_status_and_its_errors_are_its_own() -> None:
    assert run(MODULE, "3").returncode == 3
    failed = run(MODULE, "raise")
    assert (failed.returncode, failed.stderr.splitlines()[-1]) == (1, "ValueError: of its own")
    assert failed.stdout.endswith("ended in order\n")


def test_one_that_takes_too_long_is_killed() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run(MODULE, "wait", timeout=0.1)
