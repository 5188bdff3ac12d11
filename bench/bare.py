"""A bare loop: the service's own way of sending, as fast as it goes, with nothing stored.

`python -m bench.bare URL PREFIX REQUESTS IN_FLIGHT` makes its requests, sends a few others to warm up, says
that it is ready, and waits for SIGUSR1. Then it sends them, and says when the last was answered. It stays
until SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Iterator, Sequence

import uvloop

from worker.deliveries import Reply, Request
from worker.transport import Transport

from .orders import PATH, document, headers, identities

READY = "ready"
DONE = "done "
WARM_UP = 100
ATTEMPT_SECONDS = 30.0
GOOD = 200


def requests(url: str, these: Sequence[str]) -> list[Request]:
    """Return the request of each identity's order, as the outbox would make it."""
    return [
        Request("POST", f"{url}/{PATH}", head, head, document(each).encode(), private_addresses=True)
        for each in these
        for head in (headers(each),)
    ]


async def send_all(transport: Transport, these: Sequence[Request], in_flight: int) -> int:
    """Send requests, so many at once; return how many were answered well."""
    waiting = iter(these)
    return sum(await asyncio.gather(*(_send_in_turn(transport, waiting) for _ in range(in_flight))))


async def _send_in_turn(transport: Transport, waiting: Iterator[Request]) -> int:
    good = 0
    for request in waiting:
        answer = await transport.send(request, ATTEMPT_SECONDS)
        good += isinstance(answer, Reply) and answer.status == GOOD
    return good


async def _live(url: str, prefix: str, number: int, in_flight: int) -> None:
    loop, go, stop = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, go.set)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    these = requests(url, identities(prefix, number))
    async with Transport() as transport:
        await send_all(transport, requests(url, identities(f"{prefix}-first", WARM_UP)), in_flight)
        _say(READY)
        await go.wait()
        good = await send_all(transport, these, in_flight)
        _say(f"{DONE}{good} {time.monotonic()}")
        await stop.wait()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_live(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
