"""One engine in each child process of the worker, started after the fork and drained at its end."""

from __future__ import annotations

import logging
import sys
from typing import Any

from celery.signals import celeryd_init, worker_process_init, worker_process_shutdown

from config import ConfigError, Configuration, load
from orderflow_outbox.errors import OutboxError
from worker.engine_thread import EngineThread
from worker.readiness import check_ready
from worker.service import build_engine

from .announcing import Announcer
from .app import app
from .waking import Waker

STOP_MARGIN_SECONDS = 10.0
"""What a stopping engine may take beyond its drain: recording, and an alert on its way."""

engine: EngineThread | None = None

_configuration: Configuration | None = None
_announcer: Announcer | None = None
_node_name = "celery@localhost"

log = logging.getLogger(__name__)


@celeryd_init.connect
def read_configuration(sender: str, **_: Any) -> None:
    """Refuse to start the worker on a configuration or database it cannot work with."""
    global _configuration, _node_name
    _node_name = sender
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
    global engine, _announcer
    if _configuration is None:
        return
    configuration = _configuration
    waker, _announcer = Waker(app), Announcer(app, _node_name)
    announcer = _announcer
    engine = EngineThread(lambda: build_engine(configuration, waker, announcer))
    engine.start()


@worker_process_shutdown.connect
def drain_engine(**_: Any) -> None:
    """Stop claiming, finish what is in progress within the bound, give back the rest."""
    if engine is None or _configuration is None:
        return
    bound = _configuration.settings.engine.drain.total_seconds() + STOP_MARGIN_SECONDS
    if not engine.stop(bound):
        log.error("the engine did not end within %g s; its leases will run out", bound)
    if _announcer is not None:
        _announcer.close()
