"""Child processes that leave nothing behind: they end with their parent, and their group ends with them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import IO

PR_SET_PDEATHSIG = 1  # linux/prctl.h

# Loaded here: between fork and exec only the call itself is safe.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with_parent() -> Callable[[], None] | None:
    """Return a `preexec_fn` that has the kernel send the child SIGTERM when its parent dies.

    The kernel watches the *thread* that creates the child, not its process: create the child from a thread
    that lives as long as the child is wanted.

    Returns:
        The function for `subprocess.Popen(preexec_fn=…)`; None where the kernel cannot do this (not Linux).
    """
    return None if _prctl is None else partial(end_with, os.getpid())


def end_with(parent: int) -> None:
    """Have the kernel, where it can, send this process SIGTERM when its parent dies: see `die_with_parent`.

    Args:
        parent: the parent's process number.
    """
    if _prctl is None:
        return
    _prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    # A parent that died before the call is not noticed by the kernel any more.
    if os.getppid() != parent:
        os._exit(1)


def start_process(
    argv: Sequence[str], output: IO[bytes] | None, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program that leads its own session and process group, has no input and dies with its parent.

    Args:
        argv: the program and its arguments; no shell is involved.
        output: where its output and errors go; None leaves them on this process's own.
        env: variables set on top of this process's environment.

    Raises:
        OSError: the program cannot be run.
    """
    return subprocess.Popen(
        argv,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=die_with_parent(),
    )


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process of `start_process` with all it started, and reap it; it may have ended before."""
    # macOS answers EPERM for a group of which only the dead are left.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def how_it_ended(returncode: int) -> str:
    """Say in words how a process ended, from the `returncode` of its `Popen`."""
    if returncode >= 0:
        return f"stopped by itself with exit code {returncode}"
    return f"was ended by signal {-returncode} ({signal.strsignal(-returncode)})"
