"""The facts about a machine without which its figures say little: cores, versions, and above all the disk."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import celery
import psycopg

from tests.postgres import Postgres

DATABASE = "postgres"
IN_MEMORY = frozenset({"tmpfs", "ramfs"})
COMMITS = 200

_MOUNTS = Path("/proc/self/mounts")
_ELSEWHERE = Path("/var/tmp")  # noqa: S108 (only its name is tried; folders made in it are private)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the figures were taken on.

    Attributes:
        cores: that this process may use.
        load: the load average of the minute before; on a machine of one's own it is near 0.
        filesystem: the type of the one under the database.
        commit_ms: the median time of one small commit forced to disk, in ms.
    """

    cores: int
    load: float
    python: str
    celery: str
    postgresql: str
    filesystem: str
    commit_ms: float

    def __str__(self) -> str:
        return (
            f"{self.cores} cores, load {self.load:.2f} at the start, Python {self.python}, "
            f"Celery {self.celery}, PostgreSQL {self.postgresql} on {self.filesystem}, "
            f"fsync on, {self.commit_ms:.2f} ms a commit"
        )


def machine(server: Postgres) -> Machine:
    """Return the facts about this machine and the server on it."""
    load = os.getloadavg()[0]
    ((version,),) = server.execute("SHOW server_version")
    return Machine(
        cores=_cores(),
        load=load,
        python=platform.python_version(),
        celery=celery.__version__,
        postgresql=str(version).split()[0],
        filesystem=filesystem(server.folder),
        commit_ms=round(commit_milliseconds(server.dsn(DATABASE)), 3),
    )


def filesystem(folder: Path) -> str:
    """Return the type of the filesystem that holds `folder`, or `unknown`."""
    if not _MOUNTS.exists():
        return "unknown"
    mounts = [line.split()[1:3] for line in _MOUNTS.read_text().splitlines()]
    above = [(len(point), kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(above, default=(0, "unknown"))[1]


def prefer_a_disk() -> None:
    """Have temporary folders made on a disk where the usual place is memory and another one is not."""
    usual = Path(tempfile.gettempdir())
    if filesystem(usual) in IN_MEMORY and _ELSEWHERE.is_dir() and filesystem(_ELSEWHERE) not in IN_MEMORY:
        tempfile.tempdir = str(_ELSEWHERE)


def commit_milliseconds(dsn: str) -> float:
    """Return the median time of a commit of one small row, in ms, of `COMMITS` made one by one."""
    times = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE commit_probe (n integer)")
        for n in range(COMMITS):
            begun = time.perf_counter()
            connection.execute("INSERT INTO commit_probe VALUES (%s)", (n,))
            times.append(time.perf_counter() - begun)
        connection.execute("DROP TABLE commit_probe")
    return 1000 * statistics.median(times)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
