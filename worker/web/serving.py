"""Serving the console until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from config import WebSettings

STOP_SECONDS = 3
"""How long requests in progress may take once it is told to stop."""
MOST_CONNECTIONS = 200
MOST_HEAD_BYTES = 16 * 1024
QUIET_SECONDS = 15
"""How long a connection is kept on which nothing is asked, or nothing to the end of a request's head, or
whose replies are not read."""


class Protocol(H11Protocol):
    """Ends connections that ask nothing, or do not read what they are told.

    By itself uvicorn ends only those that are silent after a reply.
    """

    _deadline: asyncio.TimerHandle | None = None
    _until_read: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head from the opening on."""
        super().connection_made(transport)
        self._wait_for_a_head()

    def data_received(self, data: bytes) -> None:
        """Take in what came; more pieces of a head buy no more time for it."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait_for_a_head()
        else:
            self._wait_no_more()

    def pause_writing(self) -> None:
        """Wait until some of what was written is read, but not without end."""
        super().pause_writing()
        self._until_read = self.loop.call_later(QUIET_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Write on."""
        self._stop_waiting_for_a_reader()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._wait_no_more()
        self._stop_waiting_for_a_reader()
        super().connection_lost(exc)

    def _stop_waiting_for_a_reader(self) -> None:
        if self._until_read is not None:
            self._until_read.cancel()
            self._until_read = None

    def _wait_for_a_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(QUIET_SECONDS, self.timeout_keep_alive_handler)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Server(uvicorn.Server):
    """Ends with status 0 when it is told to."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM for the wish to stop that they are."""
        if threading.current_thread() is not threading.main_thread():
            yield  # whoever runs it there ends it
            return
        former = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def server_of(app: ASGIApp, settings: WebSettings) -> Server:
    """Return a server of the console; it logs by the process's own logging."""
    return Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            http=Protocol,
            lifespan="on",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=QUIET_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            h11_max_incomplete_event_size=MOST_HEAD_BYTES,
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.key,
        )
    )


def log_to_output() -> None:
    """Write what is logged to standard output, a line each."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in ("uvicorn.error", "uvicorn.asgi", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
