"""Where an engine's time goes: one works off a full outbox in this process, and is looked at again and again.

It says what each of the engine's two threads is at, by the modules it is in: the one of the event loop, which
sends and judges, and the one that talks to the database. A thread that waits for the database's answer is at
the database.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from config import load
from worker.engine_thread import EngineThread
from worker.ports import announce_nothing, wake_nobody
from worker.service import build_engine

from .contestant import new_place
from .orders import identities
from .stage import BenchFailed, Stage
from .watching import Watch
from .with_outbox import Outbox

LOOK_SECONDS = 0.005
LONGEST_SECONDS = 120.0
STOP_SECONDS = 20.0
LOOP = "outbox-engine"
THREADS = {LOOP: "event loop", "outbox-store_0": "store thread"}
HTTP, DATABASE, JUDGING, REST, IDLE = "HTTP", "database", "judging", "rest", "idle"

_KINDS = {
    "/worker/transport.py": HTTP,
    "/aiohttp/": HTTP,
    "/httpx/": HTTP,
    "/httpx_aiohttp/": HTTP,
    "/worker/store/": DATABASE,
    "/sqlalchemy/": DATABASE,
    "/psycopg/": DATABASE,
    "/worker/rules/": JUDGING,
    "/lxml/": JUDGING,
    "/worker/attempting.py": JUDGING,
}
_WAITS = ("/concurrent/futures/thread.py", "/asyncio/runners.py")
"""Where a thread of a pool, and an event loop, are when nothing else is on their stack."""


def shares(stage: Stage, messages: int, window: int, watch: Watch) -> dict[str, float]:
    """Return the share of its time that each of the engine's threads spends on what.

    Raises:
        BenchFailed: not all were delivered in time.
    """
    watch.round("where the time goes")
    with new_place(stage) as place:
        contestant = Outbox(place, window)
        try:
            watch.begin("filling", messages)
            contestant.put(identities("where", messages))
            contestant.settle()
            watch.begin("delivering", messages)
            with _engine(contestant), _looking() as seen:
                _wait(contestant, messages, watch)
        finally:
            contestant.close()
    return _shares(seen)


def kind_of(frame: FrameType | None) -> str:
    """Return what a thread is at: the innermost frame that is known says so.

    Args:
        frame: its innermost.
    """
    innermost = frame
    while frame is not None:
        file = frame.f_code.co_filename
        for part, kind in _KINDS.items():
            if part in file:
                return kind
        frame = frame.f_back
    waits = innermost is not None and innermost.f_code.co_filename.endswith(_WAITS)
    return IDLE if waits else REST


def _shares(seen: Mapping[str, Counter[str]]) -> dict[str, float]:
    told: dict[str, float] = {}
    for thread, kinds in seen.items():
        total = sum(kinds.values())
        told |= {f"{thread}: {kind}": kinds[kind] / total for kind in sorted(kinds)}
    return told


@contextmanager
def _engine(contestant: Outbox) -> Iterator[None]:
    configuration = load(contestant.file)
    thread = EngineThread(lambda: build_engine(configuration, wake_nobody, announce_nothing))
    thread.start()
    try:
        yield
    finally:
        thread.stop(STOP_SECONDS)


def _wait(contestant: Outbox, messages: int, watch: Watch) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    receiver = contestant.place.receiver
    while (received := receiver.count()) < messages:
        if time.monotonic() > deadline:
            raise BenchFailed(f"where the time goes: {received} of {messages} delivered in time")
        watch.at(received)
        time.sleep(10 * LOOK_SECONDS)


@contextmanager
def _looking() -> Iterator[dict[str, Counter[str]]]:
    """Look at the engine's threads for the length of the block; give what each was at, and how often."""
    seen: dict[str, Counter[str]] = {}
    ended = threading.Event()
    looker = threading.Thread(target=_look, args=(seen, ended), daemon=True)
    looker.start()
    try:
        yield seen
    finally:
        ended.set()
        looker.join()


def _look(seen: dict[str, Counter[str]], ended: threading.Event) -> None:
    while not ended.wait(LOOK_SECONDS):
        frames = sys._current_frames()
        for thread in threading.enumerate():
            if thread.name in THREADS and thread.ident in frames:
                kind = kind_of(frames[thread.ident])
                if kind is IDLE and thread.name == LOOP and _computes(thread):
                    kind = HTTP
                seen.setdefault(THREADS[thread.name], Counter())[kind] += 1


def _computes(thread: threading.Thread) -> bool:
    """Tell whether a thread that seems to wait is at work: uvloop reads and writes sockets outside Python."""
    stat = Path(f"/proc/self/task/{thread.native_id}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "R"
