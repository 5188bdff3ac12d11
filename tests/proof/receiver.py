"""A receiver in a process of its own: it notes each request, forced to disk, before it answers.

`python -m tests.proof.receiver BOOK [PLACE:N]` prints its address. With a place it never answers the Nth
request, and says so in its book: `mid-body` when half of it was read, `after-last-byte` when all of it was.
An order is imported, or refused where its identity says so; one that comes again is a duplicate.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys
from pathlib import Path

from simulator.documents import read_imports
from simulator.pages import Outcome, Reply, import_result

from .book import Book
from .producer import REFUSED

READY = "ready on "
MID_BODY, AFTER_LAST_BYTE = "mid-body", "after-last-byte"

_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_IDENTITY = re.compile(rb"\r\nidempotency-key:\s*([^\r\n]*)", re.IGNORECASE)


class Receiver:
    """Serves connections and keeps the book.

    Args:
        book: is told of each request.
        stall: the place and the number of the request that is never answered.
    """

    def __init__(self, book: Book, stall: tuple[str, int] | None) -> None:
        self._book = book
        self._stall = stall
        self._requests = 0
        self._imported: set[str] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head, reader))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader) -> bytes:
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        self._requests += 1
        stalls = self._stall[0] if self._stall and self._requests == self._stall[1] else None
        body = await reader.readexactly(size // 2)
        if stalls == MID_BODY:
            await self._never(MID_BODY)
        body += await reader.readexactly(size - size // 2)
        found = _IDENTITY.search(head)
        identity = found[1].decode() if found else ""
        self._book.write(event="request", identity=identity, sha256=hashlib.sha256(body).hexdigest())
        if stalls == AFTER_LAST_BYTE:
            await self._never(AFTER_LAST_BYTE)
        return _bytes_of(self._judged(identity, body))

    def _judged(self, identity: str, body: bytes) -> Reply:
        section, message = "Success", ""
        if identity.startswith(REFUSED):
            section, message = "Failure", "Product is not known"
        elif identity in self._imported:
            section, message = "Duplicate", "Duplicate order"
        self._imported.add(identity)
        return import_result(
            [Outcome(item, n, section, message) for n, item in enumerate(read_imports(body), 1)], 1
        )

    async def _never(self, place: str) -> None:
        self._book.write(event="stalled", place=place)
        await asyncio.Event().wait()


def _bytes_of(reply: Reply) -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {reply.content_type}\r\nContent-Length: {len(reply.body)}\r\n\r\n"
    )
    return head.encode() + reply.body


async def _run(file: str, stall: str | None) -> None:
    place, _, number = (stall or "").partition(":")
    receiver = Receiver(Book(Path(file)), (place, int(number)) if place else None)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    sys.stdout.write(f"{READY}http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
