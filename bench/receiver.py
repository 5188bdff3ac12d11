"""The receiver: answers every POST as OrderFlow answers an import that went well, and keeps books.

The simulator reads and judges each request, which costs more than a contestant's own work should be
measured beside. This one reads just enough to tell a request's identity and its end.

`python -m bench.receiver [--latency SECONDS]` prints its address and serves until SIGTERM. With a latency it
lets so much time pass before each answer, and notes how many requests are in progress.
"""

from __future__ import annotations

import argparse
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
PROGRESS = "/progress"
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
    """What was received: the identity of each request, and when its last byte was read.

    Attributes:
        entries: those.
        progress: with a latency, the moment of each request and the requests in progress, summed up over the
            time till then.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[str, float]] = []
        self.progress: list[tuple[float, float]] = []
        self._in_progress = 0
        self._summed = 0.0
        self._summed_at = 0.0

    def begins(self) -> None:
        """Note that a request is in progress now."""
        self._changes(1)
        self.progress.append((self._summed_at, self._summed))

    def ends(self) -> None:
        """Note that it no longer is."""
        self._changes(-1)

    def _changes(self, by: int) -> None:
        now = time.monotonic()
        self._summed += self._in_progress * (now - self._summed_at)
        self._summed_at = now
        self._in_progress += by

    def page(self, path: str) -> bytes:
        """Return what a GET of `path` is answered."""
        pages = {BOOKS: self.entries, PROGRESS: self.progress}
        return _answer(json.dumps(pages.get(path, len(self.entries))).encode(), "application/json")


class Connection(asyncio.Protocol):
    """One kept-alive connection."""

    def __init__(self, books: Books, success: Success, latency: float) -> None:
        self._books = books
        self._success = success
        self._latency = latency
        self._unread = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (request := self._next()) is not None:
            reply = self._reply(request)
            if self._latency and request.startswith(b"POST "):
                self._books.begins()
                asyncio.get_running_loop().call_later(self._latency, self._end, reply)
            else:
                self._write(reply)

    def _end(self, reply: bytes) -> None:
        self._books.ends()
        self._write(reply)

    def _write(self, reply: bytes) -> None:
        assert self._transport is not None  # noqa: S101 (made before any data)
        self._transport.write(reply)

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


async def _serve(latency: float) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    books, success = Books(), Success()
    server = await loop.create_server(
        lambda: Connection(books, success, latency), "127.0.0.1", 0, backlog=_BACKLOG
    )
    sys.stdout.write(f"{READY}http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await stop.wait()


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(prog="python -m bench.receiver")
    _parser.add_argument("--latency", type=float, default=0.0)
    uvloop.run(_serve(_parser.parse_args().latency))
