"""Processor time: what processes, with all that they started, have used so far."""

from __future__ import annotations

from collections.abc import Mapping
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


def _used_by(pid: int) -> float:
    first = psutil.Process(pid)
    seconds = 0.0
    for process in (first, *first.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # ended meanwhile
            times = process.cpu_times()
            seconds += times.user + times.system
    return seconds
