"""The receiver, but every answer to a POST leaves some time after the request was read.

`python -m bench.slow_receiver SECONDS` prints its address and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop

from .receiver import READY, Books, Connection, Success

_BACKLOG = 1024


class SlowConnection(Connection):
    """One kept-alive connection that is answered late."""

    def __init__(self, books: Books, success: Success, seconds: float) -> None:
        super().__init__(books, success)
        self._seconds = seconds

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (request := self._next()) is not None:
            assert self._transport is not None  # noqa: S101 (made before any data)
            late = self._seconds if request.startswith(b"POST ") else 0.0
            asyncio.get_running_loop().call_later(late, self._transport.write, self._reply(request))


async def _serve(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    books, success = Books(), Success()
    server = await loop.create_server(
        lambda: SlowConnection(books, success, seconds), "127.0.0.1", 0, backlog=_BACKLOG
    )
    sys.stdout.write(f"{READY}http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await stop.wait()


if __name__ == "__main__":
    uvloop.run(_serve(float(sys.argv[1])))
