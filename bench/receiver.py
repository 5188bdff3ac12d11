"""The receiver: answers every POST as OrderFlow answers an import that went well, and keeps books.

The simulator reads and judges each request, which costs more than a contestant's own work should be
measured beside. This one reads just enough to tell a request's identity and its end.

`python -m bench.receiver` prints its address and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
from typing import cast

import uvloop

from simulator.documents import Item
from simulator.pages import Outcome, import_result

BOOKS = "/books"
COUNT = "/count"
READY = "ready on "

_BACKLOG = 1024
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_REFERENCE = "THE-REFERENCE"
_IDENTITY = re.compile(rb"\r\nidempotency-key:\s*([^\r\n]*)", re.IGNORECASE)


def _answer(body: bytes, content_type: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Success:
    """OrderFlow's report on one order that went well; what is sent is identified by the order's reference."""

    def __init__(self) -> None:
        reply = import_result([Outcome(Item("order", "insert", _REFERENCE, ""), 1, "Success")], 3)
        self._before, self._after = reply.body.split(_REFERENCE.encode())
        self._type = reply.content_type

    def on(self, reference: str) -> bytes:
        return _answer(self._before + reference.encode() + self._after, self._type)


class Books:
    """What was received: the identity of each request, and when its last byte was read."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, float]] = []

    def page(self, path: str) -> bytes:
        """Return what a GET of `path` is answered."""
        content = len(self.entries) if path == COUNT else self.entries
        return _answer(json.dumps(content).encode(), "application/json")


class Connection(asyncio.Protocol):
    """One kept-alive connection."""

    def __init__(self, books: Books, success: Success) -> None:
        self._books = books
        self._success = success
        self._unread = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (request := self._next()) is not None:
            assert self._transport is not None  # noqa: S101 (made before any data)
            self._transport.write(self._reply(request))

    def _next(self) -> bytes | None:
        """Take the next whole request and return its head; None while there is none."""
        end = self._unread.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = self._unread[:end]
        length = _LENGTH.search(head)
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(self._unread) < whole:
            return None
        self._unread = self._unread[whole:]
        return head

    def _reply(self, head: bytes) -> bytes:
        if head.startswith(b"POST "):
            found = _IDENTITY.search(head)
            identity = found[1].decode() if found else ""
            self._books.entries.append((identity, time.monotonic()))
            return self._success.on(identity)
        return self._books.page(head.split(b" ", 2)[1].decode())


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    books, success = Books(), Success()
    server = await loop.create_server(lambda: Connection(books, success), "127.0.0.1", 0, backlog=_BACKLOG)
    sys.stdout.write(f"{READY}http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await stop.wait()


if __name__ == "__main__":
    uvloop.run(_serve())
