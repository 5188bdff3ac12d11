"""What memory a worker takes: its Celery parent and the children, each without what it shares with others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .stage import BenchFailed

_PROC = Path("/proc")
_KILOBYTE = 1024
_OWN = ("Private_Clean:", "Private_Dirty:", "Private_Hugetlb:")
_WORKER = (b"celery", b"worker")


class Footprint:
    """The memory of the one worker that this process runs.

    Attributes:
        peak: the most seen, in bytes.

    Raises:
        BenchFailed: there is none, or memory cannot be looked at here.
    """

    def __init__(self) -> None:
        if not (_PROC / "self/smaps_rollup").exists():
            raise BenchFailed("memory: this needs Linux, where processes tell what is their own")
        self._parent = next((each for each in _children("self") if _is_worker(each)), None)
        if self._parent is None:
            raise BenchFailed("memory: no worker is running")
        self.peak = 0

    def look(self) -> None:
        """Look how much it is now."""
        assert self._parent is not None  # noqa: S101 (or there would be no footprint)
        self.peak = max(self.peak, sum(_own_bytes(each) for each in _with_descendants(self._parent)))


def _with_descendants(process: str) -> Iterator[str]:
    yield process
    for child in _children(process):
        yield from _with_descendants(child)


def _children(process: str) -> list[str]:
    return [
        child
        for task in (_PROC / process / "task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def _is_worker(process: str) -> bool:
    words = (_PROC / process / "cmdline").read_bytes().split(b"\0")
    return all(word in words for word in _WORKER)


def _own_bytes(process: str) -> int:
    lines = (_PROC / process / "smaps_rollup").read_text().splitlines()
    return _KILOBYTE * sum(int(line.split()[1]) for line in lines if line.startswith(_OWN))
