"""What the receiver itself takes from the least client there can be, which sends one request on and on.

`python -m bench.ceiling URL SECONDS` keeps a few connections, sends on each once the answer before is there,
and prints how many answers came in a second.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import cast
from urllib.parse import urlsplit

import uvloop

from .contestant import new_place
from .orders import PATH, document, headers
from .stage import BenchFailed, Stage
from .watching import Watch

CONNECTIONS = 16
CLIENTS = 2
SECONDS = 2.0
SPARE_SECONDS = 30.0
IDENTITY = "ceiling"


class _Client(asyncio.Protocol):
    """One connection; each answer is as long as the first, which comes alone."""

    answers = 0

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._length: int | None = None
        self._read = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._read += data
        if self._length is None:
            self._length = _length(self._read)
        if self._length is None or len(self._read) < self._length or self._transport is None:
            return
        self._read = b""
        _Client.answers += 1
        self._transport.write(self._request)


def taken(stage: Stage, clients: int, watch: Watch) -> float:
    """Return how many requests a second a receiver takes from so many of these clients."""
    watch.round(f"what the receiver takes from {clients}")
    watch.begin("sending", 1)
    with new_place(stage) as place:
        words = [sys.executable, "-m", "bench.ceiling", place.receiver.url, str(SECONDS)]
        processes = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(clients)]
        try:
            said = [process.communicate(timeout=SECONDS + SPARE_SECONDS)[0] for process in processes]
        except subprocess.TimeoutExpired as error:
            raise BenchFailed("the receiver's ceiling: a client does not end") from error
        finally:
            for process in processes:
                process.kill()
                process.wait()
    if any(process.returncode for process in processes):
        raise BenchFailed("the receiver's ceiling: a client failed")
    return sum(float(each) for each in said)


def _length(read: bytes) -> int | None:
    """Return the length of the answer that begins so; None while its head is incomplete."""
    head, end, _ = read.partition(b"\r\n\r\n")
    if not end:
        return None
    (length,) = (line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return len(head) + len(end) + int(length.split(b":")[1])


def _request(host: str) -> bytes:
    body = document(IDENTITY).encode()
    lines = [f"POST /{PATH} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers(IDENTITY).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _live(url: str, seconds: float) -> None:
    address = urlsplit(url)
    request, loop = _request(address.netloc), asyncio.get_running_loop()
    host, port = address.hostname or "", address.port or 0
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: _Client(request), host, port)
    before, begun = _Client.answers, loop.time()
    await asyncio.sleep(seconds)
    sys.stdout.write(f"{(_Client.answers - before) / (loop.time() - begun)}\n")


if __name__ == "__main__":
    uvloop.run(_live(sys.argv[1], float(sys.argv[2])))
