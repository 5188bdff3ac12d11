"""Celery's consumer, made calm: what it does while its broker cannot be used.

Celery's own waits up to half a minute between two tries, tells of each with a traceback, ends the
worker when a broker refuses a command, and replaces no dead child process meanwhile.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import celery.app.events
from celery.events import EventDispatcher
from celery.worker import consumer
from celery.worker.state import maybe_shutdown

from .connecting import RETRY_SECONDS, broker_switch, connect_patiently, wait

STEADY_SECONDS = 2.0
"""A broker that served this long is usable: one may take a connection and refuse all else."""

log = logging.getLogger(__name__)


class Consumer(consumer.Consumer):
    """Takes hints from the broker, comes back by itself, and says once when it cannot and when it can."""

    connection: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Nothing is to be agreed upon with other workers: the database has it all.
        super().__init__(*args, **{**kwargs, "without_mingle": True, "without_gossip": True})
        self._usable = broker_switch(log, self.conninfo)
        self._is_registered = False
        self._is_steady = False
        self._becoming_steady: Any = None

    def ensure_connected(self, conn: Any) -> Any:
        """Return the connection once it is open."""
        opened = connect_patiently(conn, self._usable, self._each_second)
        self.first_connection_attempt = False
        return opened

    def on_ready(self) -> None:
        """Note that everything asked of the broker was granted."""
        super().on_ready()
        self._is_registered = True
        self._becoming_steady = self.timer.call_after(STEADY_SECONDS, self._be_steady)

    def on_connection_error_before_connected(self, exc: BaseException) -> None:
        """Say so, once, and wait a little."""
        self._usable.off(exc)
        wait(RETRY_SECONDS, self._each_second)

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        """Say so, once, clean up, and wait a little where the broker has not served for long."""
        self._usable.off(exc)
        connection, self.connection = self.connection, None
        # It fails while a hint is under way, in more than one manner: Celery's own would end the worker.
        for clean in (connection.collect, connection.close):
            with suppress(Exception):
                clean()
        if self._becoming_steady is not None:
            self.timer.cancel(self._becoming_steady)
        was_steady, self._is_steady = self._is_steady, False
        if not was_steady:
            wait(RETRY_SECONDS, self._each_second)

    def _be_steady(self) -> None:
        self._is_steady = True
        self._usable.on()

    def _each_second(self) -> None:
        maybe_shutdown()
        if self.hub is None:
            return
        # Celery's event loop, which replaces child processes that died, stands still meanwhile.
        if not self._is_registered:
            self.pool.register_with_event_loop(self.hub)
            self._is_registered = True
        self.pool._pool.maintain_pool()


class Dispatcher(EventDispatcher):
    """Tells watchers that this worker is there; what the broker does not take at once is lost.

    Celery's own tries until it succeeds, and the whole worker waits; where the broker forbids it, without
    a pause.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "buffer_while_offline": False})

    def send(self, type: str, *args: Any, **fields: Any) -> None:
        """Send one event, once."""
        try:
            super().send(type, *args, **{**fields, "retry": False})
        except Exception as error:
            log.debug("the event %s was lost: %s", type, error.__class__.__name__)


class Events(celery.app.events.Events):
    """Has the worker use this module's dispatcher."""

    dispatcher_cls = Dispatcher


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether a line is more than that a hint could not be acknowledged to a broker that went."""
    return not str(record.msg).startswith("Couldn't ack")


logging.getLogger("celery.worker.request").addFilter(_is_news)
# What these add at each loss is told by the switch already.
for _name, _level in {
    "celery.worker.consumer.connection": logging.WARNING,
    "celery.worker.loops": logging.CRITICAL,
    "kombu.transport.redis": logging.ERROR,
    "kombu.transport.virtual.base": logging.WARNING,
}.items():
    logging.getLogger(_name).setLevel(_level)
