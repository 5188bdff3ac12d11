"""The transport against receivers that misbehave, on real sockets."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from orderflow_outbox.operations import Method
from worker.deliveries import Failure, Reply, Request
from worker.transport import MAX_REPLY_BYTES, Transport

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def receiver(handler: Handler) -> AsyncIterator[str]:
    """Serve `handler` on loopback; it gets each connection once its request's head was read."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/web"
    finally:
        server.close()


def post(url: str, body: bytes | None = b"<imports/>", **headers: str) -> Request:
    return Request("POST", url, headers, headers, body, private_addresses=True)


def exchange(handler: Handler, deadline: float = 2.0) -> Reply | Failure:
    async def run() -> Reply | Failure:
        async with receiver(handler) as url, Transport() as transport:
            return await transport.send(post(url), deadline)

    return asyncio.run(run())


async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def cut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n<importResult>")
    await writer.drain()


async def redirect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


async def nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example.com ESMTP\r\n\r\n")
    await writer.drain()


def test_a_body_that_drips_ends_at_the_deadline_and_leaves_a_doubt() -> None:
    answer = exchange(drip, deadline=0.4)
    assert isinstance(answer, Failure)
    assert (answer.reason, answer.bytes_may_have_left) == ("timeout", True)


def test_an_endless_body_is_read_up_to_the_limit() -> None:
    answer = exchange(endless, deadline=10)
    assert isinstance(answer, Reply)
    assert len(answer.body) == MAX_REPLY_BYTES
    assert not answer.complete


def test_a_reset_leaves_a_doubt() -> None:
    answer = exchange(reset)
    assert isinstance(answer, Failure)
    assert (answer.reason, answer.bytes_may_have_left) == ("connection_lost", True)


def test_a_body_cut_off_is_incomplete() -> None:
    answer = exchange(cut)
    assert isinstance(answer, Reply)
    assert (answer.body, answer.complete) == (b"<importResult>", False)


def test_a_body_that_goes_on_past_its_length_is_incomplete() -> None:
    async def go_on(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n<importR")
        await writer.drain()
        await asyncio.sleep(0.1)  # in the loop of the transport, which takes what is there meanwhile
        writer.write(b"esult></importResult>")
        await writer.drain()

    answer = exchange(go_on)
    assert isinstance(answer, Reply)
    assert not answer.complete


def test_a_redirect_is_not_followed() -> None:
    answer = exchange(redirect)
    assert isinstance(answer, Reply)
    assert (answer.status, answer.header("location")) == (302, "http://127.0.0.1:1/")


def test_an_answer_that_is_not_http_leaves_a_doubt() -> None:
    answer = exchange(nonsense)
    assert isinstance(answer, Failure)
    assert answer.bytes_may_have_left


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 ",
        b"HTTP/1.1 200 OK\r\nX Login ",
        b"HTTP/1.1 200 OK\r\nX-Login\0",
        b"HTTP/1.1 200 OK\r\nContent-Length: ",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Login: " + b"y" * 8200,
    ],
)
def test_an_answer_that_is_not_http_is_not_quoted(start: bytes) -> None:
    async def repeat(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start + b'Basic "don\'t" c2hvcDpzZWNyZXQ=: 1\r\n\r\n')
        await writer.drain()

    answer = exchange(repeat)
    if isinstance(answer, Failure):
        assert answer.text.startswith("HttpProcessingError: ")
        assert "\n" not in answer.text
        assert not re.search("Basic|don|c2hv|yyy", answer.text)
    else:
        assert (answer.complete, answer.body) == (False, b"")


def test_a_head_that_breaks_off_is_not_quoted() -> None:
    async def begin(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Login: Basic c2hvcDpzZWNyZXQ=\r\nX-A")
        await writer.drain()

    answer = exchange(begin)
    assert isinstance(answer, Failure)
    assert answer.text == "ServerDisconnectedError: Server disconnected"


def test_a_refused_connection_leaves_no_doubt() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def run() -> Reply | Failure:
        async with Transport() as transport:
            return await transport.send(post(f"http://127.0.0.1:{port}/"), 2.0)

    answer = asyncio.run(run())
    assert isinstance(answer, Failure)
    assert (answer.reason, answer.bytes_may_have_left) == ("connect_failed", False)


def test_a_failed_handshake_leaves_no_doubt() -> None:
    async def run() -> Reply | Failure:
        async with receiver(nonsense) as url, Transport() as transport:
            return await transport.send(post(url.replace("http:", "https:")), 1.0)

    answer = asyncio.run(run())
    assert isinstance(answer, Failure)
    assert not answer.bytes_may_have_left


def test_the_request_carries_its_headers_and_bytes_and_no_cookie_of_an_earlier_answer() -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            heads.append(head + await reader.readexactly(10))
            writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a%20b?c=d%26e"
        async with Transport() as transport:
            for _ in range(2):
                answer = await transport.send(post(url, **{"Accept-Encoding": "identity", "X-A": "1"}), 2.0)
                assert isinstance(answer, Reply)
        server.close()

    asyncio.run(run())
    assert heads[0] == heads[1]
    assert heads[0].startswith(b"POST /a%20b?c=d%26e HTTP/1.1\r\n")
    assert heads[0].endswith(b"\r\n\r\n<imports/>")
    head = heads[0].lower()
    assert b"\r\naccept-encoding: identity\r\n" in head
    assert b"\r\nx-a: 1\r\n" in head
    assert head.count(b"content-length: 10\r\n") == 1
    assert b"cookie" not in head


@pytest.mark.parametrize("count", [300, pytest.param(5000, marks=pytest.mark.soak)])
def test_after_many_cancelled_requests_the_next_one_works_at_once(count: int) -> None:
    async def hang_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"ok" not in await reader.read(10):
            await asyncio.sleep(5)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async def run() -> Reply | Failure:
        async with receiver(hang_first) as url, Transport() as transport:
            tasks = [asyncio.create_task(transport.send(post(url), 5.0)) for _ in range(count)]
            for n, task in enumerate(tasks):
                await asyncio.sleep(0 if n % 3 else 0.001)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return await transport.send(post(url, b"ok"), 2.0)

    assert isinstance(asyncio.run(run()), Reply)


def test_a_reply_that_nobody_asked_for_is_not_taken_for_one_to_a_later_request() -> None:
    async def answer_twice(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, second = (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % n for n in (1, 2))
        writer.write(first)
        await writer.drain()
        await answered.wait()
        writer.write(second)
        await writer.drain()
        await asyncio.sleep(2)

    async def run() -> list[Reply | Failure]:
        async with receiver(answer_twice) as url, Transport() as transport:
            first = await transport.send(post(url), 2.0)
            answered.set()
            await asyncio.sleep(0.05)
            return [first, await transport.send(post(url), 2.0)]

    answered = asyncio.Event()
    assert [each.body for each in asyncio.run(run()) if isinstance(each, Reply)] == [b"1", b"1"]


def test_a_request_on_a_kept_connection_that_is_dropped_reaches_the_receiver_once() -> None:
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the first request of each connection, and drop it once the second was read."""
        for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            seen.append(head.decode().partition(" ")[0])
            writer.write(answer)
            await writer.drain()
        writer.close()

    async def run(method: str) -> list[Reply | Failure]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/web"
        async with server, Transport() as transport:
            return [await transport.send(replace(post(url, None), method=method), 2.0) for _ in range(2)]

    for method in Method:
        seen.clear()
        first, second = asyncio.run(run(method))
        assert isinstance(first, Reply)
        assert isinstance(second, Failure)
        assert (second.reason, second.bytes_may_have_left) == ("connection_lost", True)
        assert second.text.startswith("ServerDisconnectedError")
        assert seen == [method, method]
