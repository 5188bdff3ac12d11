"""The supervisor, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from worker import supervisor
from worker.supervisor import LONGEST_PAUSE_SECONDS, STEADY_SECONDS, Part, Supervisor, next_pause

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc or the parent-death signal")

PROJECT = Path(__file__).resolve().parents[1]

STEADY = "import time; print('up', flush=True); time.sleep(600)"
BRIEF = "print('up', flush=True); raise SystemExit(3)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('up', flush=True)
time.sleep(600)
"""
WITH_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
print(child.pid, flush=True)
time.sleep(600)
"""
NOTES_ITS_END = """
import os, signal, sys, time
def end(number, frame):
    with open(os.environ['ENDS'], 'a') as ends:
        ends.write(sys.argv[1] + ' ')
    raise SystemExit
signal.signal(signal.SIGTERM, end)
print('up', flush=True)
time.sleep(600)
"""
ANSWERS = """
import os, signal, time
signal.signal(signal.SIGCONT, lambda number, frame: print('still here', flush=True))
print(os.getpid(), flush=True)
while True:
    time.sleep(600)
"""
SERVICE = """
import sys
from pathlib import Path
from worker.supervisor import Part, Supervisor
parts = [Part(f'part{n}', [sys.executable, '-c', code], stop_seconds=float(sys.argv[2]))
         for n, code in enumerate(sys.argv[3:])]
raise SystemExit(Supervisor(parts, lambda line: print(line, flush=True), Path(sys.argv[1])).run())
"""


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_SECONDS", 0.05)


def part(name: str, code: str, stop_seconds: float = 10.0) -> Part:
    return Part(name, [sys.executable, "-c", code], stop_seconds=stop_seconds)


def nobody(line: str) -> None:
    del line


def service(log_dir: Path, stop_seconds: float, *codes: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", SERVICE, str(log_dir), str(stop_seconds), *codes]
    process = subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    logs = [log_dir / f"part{number}.log" for number in range(len(codes))]
    wait_until(lambda: all(lines(log) for log in logs))
    return process


def result_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=15)
    finally:
        process.kill()
    return process.returncode, output


def wait_until(is_so: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.01)


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def running(marker: str) -> list[int]:
    """Return the living processes with `marker` in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (folder / "environ").read_bytes() and is_alive(int(folder.name)):
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def test_parts_run_until_the_block_ends(tmp_path: Path) -> None:
    parts = [part("a", STEADY), part("b", STEADY)]
    said: list[str] = []
    with Supervisor(parts, said.append, tmp_path):
        wait_until(lambda: lines(tmp_path / "a.log") == lines(tmp_path / "b.log") == ["up"])
    assert said == []


def test_a_part_that_dies_is_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    with Supervisor([part("brief", BRIEF)], said.append, tmp_path):
        wait_until(lambda: len(lines(tmp_path / "brief.log")) >= 3)
    assert said[:2] == [
        "brief stopped by itself with exit code 3; starting it again in 0.05 s",
        "brief stopped by itself with exit code 3; starting it again in 0.1 s",
    ]


@on_linux
def test_a_part_that_is_killed_is_started_again_with_its_own_children_gone(tmp_path: Path) -> None:
    said: list[str] = []
    log = tmp_path / "family.log"
    family = [sys.executable, "-c", f"import os; print(os.getpid(), flush=True){WITH_CHILD}"]
    with Supervisor([Part("family", family)], said.append, tmp_path):
        wait_until(lambda: len(lines(log)) == 2)
        leader, child = map(int, lines(log))
        os.kill(leader, signal.SIGKILL)
        wait_until(lambda: len(lines(log)) == 4)
        assert not is_alive(child)
    assert said == ["family was ended by signal 9 (Killed); starting it again in 0.05 s"]


def test_the_others_go_on_while_one_part_keeps_dying(tmp_path: Path) -> None:
    with Supervisor([part("brief", BRIEF), part("steady", STEADY)], nobody, tmp_path):
        wait_until(lambda: len(lines(tmp_path / "brief.log")) >= 3)
    assert lines(tmp_path / "steady.log") == ["up"]


def test_a_program_that_vanished_is_tried_again(tmp_path: Path) -> None:
    said: list[str] = []
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\nrm -f "$0"\n')
    program.chmod(0o700)
    with Supervisor([Part("program", [str(program)])], said.append, None):
        wait_until(lambda: len(said) >= 3)
    assert said[0].startswith("program stopped by itself with exit code 0")
    assert said[1].startswith("program cannot be run: ")
    assert said[2].endswith("starting it again in 0.2 s")


@on_linux
def test_a_service_with_a_program_that_cannot_be_run_does_not_start(tmp_path: Path) -> None:
    marker = f"OF_TEST={tmp_path}"
    good = Part("good", [sys.executable, "-c", STEADY], env={"OF_TEST": str(tmp_path)})
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        Supervisor([good, Part("bad", ["no-such-program"])], print, tmp_path).start()
    assert running(marker) == []


def test_pauses_double_up_to_a_bound_and_start_over_after_a_steady_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    pauses = [0.0]
    for _ in range(7):
        pauses.append(next_pause(pauses[-1], ran=0.1))
    assert pauses[1:] == [1, 2, 4, 8, 16, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]
    assert next_pause(LONGEST_PAUSE_SECONDS, ran=STEADY_SECONDS) == 1


def test_parts_are_stopped_in_reverse_order(tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    argv = [sys.executable, "-c", NOTES_ITS_END]
    parts = [Part(name, [*argv, name], env={"ENDS": str(ends)}) for name in ("one", "two", "three")]
    with Supervisor(parts, print, tmp_path):
        wait_until(lambda: all(lines(tmp_path / f"{part.name}.log") for part in parts))
    assert ends.read_text() == "three two one "


def test_a_part_that_will_not_stop_is_killed_when_its_time_is_up(tmp_path: Path) -> None:
    said: list[str] = []
    with Supervisor([part("stubborn", STUBBORN, stop_seconds=0.2)], said.append, tmp_path):
        wait_until(lambda: lines(tmp_path / "stubborn.log"))
    assert said == ["stubborn did not stop when asked and was killed"]


@on_linux
def test_no_part_outlives_the_supervisor(tmp_path: Path) -> None:
    environment = {"OF_TEST": str(tmp_path)}
    parts = [
        Part("steady", [sys.executable, "-c", STEADY], environment),
        Part("family", [sys.executable, "-c", WITH_CHILD], environment),
        Part("brief", [sys.executable, "-c", BRIEF], environment),
        Part("stubborn", [sys.executable, "-c", STUBBORN], environment, stop_seconds=0.2),
    ]
    marker = f"OF_TEST={tmp_path}"
    with Supervisor(parts, nobody, tmp_path):
        wait_until(lambda: all(lines(tmp_path / f"{part.name}.log") for part in parts))
        assert len(running(marker)) >= 4
    wait_until(lambda: not running(marker))  # a child of a part dies of the signal, but is not waited for


def test_stop_may_be_repeated_and_come_before_the_start(tmp_path: Path) -> None:
    one = Supervisor([part("a", STEADY)], print, tmp_path)
    one.start()
    one.stop()
    one.stop()
    Supervisor([part("a", STEADY)], print, tmp_path).stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_service_and_its_exit_code_is_0(tmp_path: Path, number: int) -> None:
    process = service(tmp_path, 10, "import os; print(os.getpid(), flush=True);" + STEADY)
    part_pid = int(lines(tmp_path / "part0.log")[0])
    process.send_signal(number)
    assert result_of(process) == (0, "")
    assert not is_alive(part_pid)


def test_a_second_signal_kills_at_once(tmp_path: Path) -> None:
    process = service(tmp_path, 600, STUBBORN, STUBBORN)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    said = [f"part{n} did not stop when asked and was killed\n" for n in (1, 0)]
    assert result_of(process) == (0, "".join(said))


@on_linux
def test_a_killed_supervisor_takes_its_parts_along(tmp_path: Path) -> None:
    process = service(tmp_path, 10, "import os; print(os.getpid(), flush=True);" + STEADY)
    part_pid = int(lines(tmp_path / "part0.log")[0])
    process.kill()
    process.communicate()
    wait_until(lambda: not is_alive(part_pid))


@on_linux
def test_parts_outlive_the_thread_that_called_start(tmp_path: Path) -> None:
    service = Supervisor([part("a", ANSWERS)], print, tmp_path)
    starter = threading.Thread(target=service.start)
    starter.start()
    wait_until(
        lambda: lines(tmp_path / "a.log") and not Path(f"/proc/self/task/{starter.native_id}").exists()
    )
    # A parent-death signal would be pending by now, and comes first: SIGTERM is the lower number.
    os.kill(int(lines(tmp_path / "a.log")[0]), signal.SIGCONT)
    wait_until(lambda: lines(tmp_path / "a.log")[1:])
    service.stop()
    assert lines(tmp_path / "a.log")[1:] == ["still here"]


def test_output_goes_to_the_supervisors_own_without_a_log_folder(capfd: pytest.CaptureFixture[str]) -> None:
    with Supervisor([part("a", STEADY)], print, None):
        wait_until(lambda: "up\n" in capfd.readouterr().out)
