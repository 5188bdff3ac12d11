"""An engine in a process of its own, without Celery: `python -m tests.proof.engine`, until SIGTERM."""

from __future__ import annotations

import signal
import threading

from config import load
from worker.engine_thread import EngineThread
from worker.ports import announce_nothing, wake_nobody
from worker.service import build_engine


def run() -> None:
    """Run one engine by the configuration that the environment names."""
    configuration, stop = load(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    thread = EngineThread(lambda: build_engine(configuration, wake_nobody, announce_nothing))
    thread.start()
    stop.wait()
    thread.stop(20)


if __name__ == "__main__":
    run()
