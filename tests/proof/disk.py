"""A process whose disk fails, while others go on; its kernel is told so."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig import eventually

ROOM = 64 * 1024
"""Bytes that a file may have all the same, so that a log can be written and a database cannot."""
CALLS = "fsync,fdatasync"


@contextmanager
def full_disk(process: int) -> Iterator[None]:
    """Have a process be able to make no file longer, as on a disk that is full."""
    _, most = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (ROOM, most))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, (most, most))


@contextmanager
def failing_fsync(*processes: int) -> Iterator[None]:
    """Have each fsync of processes fail, and of those they start; without strace the test is skipped."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace, which makes an fsync fail, is not installed")
    options = ["-f", "-qq", "-o", "/dev/null", "-e", f"trace={CALLS}", "-e", f"inject={CALLS}:error=EIO"]
    tracer = subprocess.Popen([program, *options, "-p", ",".join(map(str, processes))])
    try:
        eventually(lambda: tracer.poll() is not None or all(map(_is_traced, processes)))
        if tracer.poll() is not None:
            pytest.skip("strace, which makes an fsync fail, may not look at other processes here")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait()


def _is_traced(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:  # of the server's processes some come and go
        return True
    return "TracerPid:\t0\n" not in status
