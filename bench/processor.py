"""What processes, with all that they started, use: processor time and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import psutil


def children_of_ours() -> list[int]:
    """Return this process's own children, the eldest first."""
    children = psutil.Process().children()
    return [each.pid for each in sorted(children, key=lambda child: (child.create_time(), child.pid))]


def used(processes: Mapping[str, int]) -> dict[str, float]:
    """Return the seconds that each named process, and what it started, have used so far."""
    return {name: _used_by(pid) for name, pid in processes.items()}


def used_since(before: Mapping[str, float], processes: Mapping[str, int]) -> dict[str, float]:
    """Return the seconds that each process used since `used` was asked before."""
    return {name: now - before[name] for name, now in used(processes).items()}


def own_memory(pid: int) -> int:
    """Return the bytes that a process and what it started take up, without what they share with others."""
    return int(_summed(pid, lambda process: process.memory_full_info().uss))


def _used_by(pid: int) -> float:
    return _summed(pid, _seconds)


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _summed(pid: int, of: Callable[[psutil.Process], float]) -> float:
    first = psutil.Process(pid)
    summed = 0.0
    for process in (first, *first.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # ended meanwhile
            summed += of(process)
    return summed
