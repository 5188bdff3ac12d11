"""Puts replies on the wire, whole or spoilt."""

from __future__ import annotations

import asyncio
import socket
import struct

from aiohttp import web

from simulator.pages import REASONS, Reply

LOOK_SECONDS = 0.02
_LINGER_FOR_NOTHING = struct.pack("ii", 1, 0)


def whole(reply: Reply) -> web.StreamResponse:
    """The reply as it should be; the connection stays open for the next request."""
    headers = {"Content-Type": reply.content_type, **reply.headers}
    return web.Response(body=reply.body, status=reply.status, headers=headers)


def is_gone(request: web.BaseRequest) -> bool:
    """Whether the client has hung up."""
    return request.transport is None or request.transport.is_closing()


async def until_gone(request: web.BaseRequest) -> None:
    """Wait until the client has given up."""
    while not is_gone(request):
        await asyncio.sleep(LOOK_SECONDS)


def reset(request: web.BaseRequest) -> web.StreamResponse:
    """No reply: the client sees its connection reset."""
    transport = request.transport
    if transport is not None:
        connection: socket.socket = transport.get_extra_info("socket")
        # Closing without lingering is what makes the kernel send RST in place of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_FOR_NOTHING)
        transport.abort()
    return _unsent()


def silent(request: web.BaseRequest) -> web.StreamResponse:
    """No reply: the client sees its connection closed."""
    _close(request.transport)
    return _unsent()


def cut(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Half of the reply, with the length of the whole, and the connection closed."""
    if request.transport is not None:
        head = (
            f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'OK')}\r\n"
            f"Content-Type: {reply.content_type}\r\n"
            f"Content-Length: {len(reply.body)}\r\n\r\n"
        )
        request.transport.write(head.encode() + reply.body[: len(reply.body) // 2])
    _close(request.transport)
    return _unsent()


def _close(transport: asyncio.Transport | None) -> None:
    if transport is not None:
        transport.close()


def _unsent() -> web.StreamResponse:
    # aiohttp wants a response from every handler, and drops it when the connection is closing.
    return web.Response()
