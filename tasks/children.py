"""One engine in each child process of the worker, started after the fork and drained at its end."""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from typing import Any

from celery.signals import (
    celeryd_init,
    worker_process_init,
    worker_process_shutdown,
    worker_shutting_down,
)

from config import ConfigError, Configuration, load
from orderflow_outbox.errors import OutboxError
from worker.engine_thread import EngineThread
from worker.readiness import check_ready
from worker.service import build_engine
from worker.watchdog import HUNG_SECONDS

from .announcing import Announcer
from .app import app
from .listening import Listener
from .stopping import StopLine
from .telling import SendingWatch
from .waking import Waker

STOP_MARGIN_SECONDS = 6.0
"""What a stopping engine may take beyond its drain, for recording."""
ORPHAN_SECONDS = 3.0
"""How long a drained child waits for its main process to end it, before it ends by itself."""

COLLECTED_EVERY = (10_000, 20, 100)
"""By its own thresholds Python goes through every message in hand again and again, which took a fifth of an
engine's time, for garbage of which there is little."""

engine: EngineThread | None = None

_configuration: Configuration | None = None
_announcer: Announcer | None = None
_listener: Listener | None = None
_node_name = "celery@localhost"
_stop_line: StopLine | None = None

log = logging.getLogger(__name__)


@celeryd_init.connect
def read_configuration(sender: str, **_: Any) -> None:
    """Refuse to start the worker on a configuration or database it cannot work with."""
    global _configuration, _node_name, _stop_line
    _node_name = sender
    _stop_line = StopLine()
    try:
        _configuration = load()
        check_ready(_configuration)
    except ConfigError as error:
        sys.exit("\n".join(error.problems))
    except OutboxError as error:
        sys.exit(str(error))


@worker_process_init.connect
def start_engine(**_: Any) -> None:
    """Start this child's engine."""
    global engine, _announcer, _listener
    if _configuration is None:
        return
    gc.freeze()  # what was imported before the fork stays, and its memory stays shared
    gc.set_threshold(*COLLECTED_EVERY)
    configuration = _configuration
    watch = SendingWatch(log)
    waker, _announcer = Waker(app, watch), Announcer(app, _node_name, watch)
    announcer = _announcer
    engine = EngineThread(lambda: build_engine(configuration, waker, announcer), HUNG_SECONDS)
    engine.start()
    _listener = Listener(app, engine.wake)
    if _stop_line is not None:
        _stop_line.on_stop(_drain_and_leave)


@worker_shutting_down.connect
def tell_engines(**_: Any) -> None:
    """Have every engine stop now, however long Celery takes over its broker."""
    if _stop_line is not None:
        _stop_line.stop(_bound() + ORPHAN_SECONDS)


@worker_process_shutdown.connect
def drain_engine(**_: Any) -> None:
    """Stop claiming, finish what is in progress within the bound, give back the rest."""
    if engine is None:
        return
    if _listener is not None:
        _listener.stop()
    if not engine.stop(_bound()):
        log.error("the engine did not end within %g s; its leases will run out", _bound())
    if _announcer is not None:
        _announcer.close()


def _drain_and_leave() -> None:
    drain_engine()
    time.sleep(ORPHAN_SECONDS)
    os._exit(0)


def _bound() -> float:
    assert _configuration is not None  # noqa: S101 (read before any child was made)
    return _configuration.settings.engine.drain.total_seconds() + STOP_MARGIN_SECONDS
