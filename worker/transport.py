"""One HTTP exchange, with one deadline for the whole of it.

httpx is driven at its transport interface, over aiohttp: a transport follows no redirects, keeps
no cookies and reads no proxy variables, and this one survives cancelled requests.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from functools import lru_cache, partial
from types import TracebackType
from typing import Any

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError
from httpx_aiohttp import AiohttpTransport

from .deliveries import Failure, Reply, Request
from .guard import AddressRefused, refuse_inner

MAX_REPLY_BYTES = 5 * 1024 * 1024
CONNECT_SHARE = 0.5
"""How much of the deadline connecting may take: past it, we know that nothing was sent."""
MAX_OVERHEAD_BYTES = 256 * 1024
"""What a reply may take beside its body: replies of 1xx before it, its head, how it is cut into chunks."""


class Transport:
    """Sends requests for one engine; use it as an asynchronous context manager.

    Args:
        backend: the httpx transport to drive; by default httpx over aiohttp. Tests may pass a
            double such as `httpx.MockTransport`.
        resolver: finds the addresses of a name; by default as this machine does.
    """

    def __init__(
        self, backend: httpx.AsyncBaseTransport | None = None, resolver: AbstractResolver | None = None
    ) -> None:
        self._resolver = resolver
        self._backends = {} if backend is None else {False: backend, True: backend}

    async def __aenter__(self) -> Transport:
        if not self._backends:
            trusted = ssl.create_default_context()
            # Of each its own, so that a connection kept alive serves nobody who may not go there.
            self._backends = {
                private: AiohttpTransport(
                    client=partial(_session, trusted, self._resolver, private),
                    verify=trusted,
                    trust_env=False,
                )
                for private in (False, True)
            }
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for backend in self._backends.values():
            await backend.aclose()

    async def send(self, request: Request, deadline: float) -> Reply | Failure:
        """Send `request` and read its answer, all within `deadline` seconds.

        Returns:
            The reply, or a failure that tells whether bytes may have left; nothing is raised for
            what a receiver or a network does.
        """
        backend = self._backends[request.private_addresses]
        try:
            async with asyncio.timeout(deadline):
                return await self._exchange(backend, request, deadline)
        except TimeoutError:
            return Failure("timeout", f"no complete answer within {deadline:g} s", True)
        except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ValueError) as error:
            return _failure(error)

    async def _exchange(self, backend: httpx.AsyncBaseTransport, request: Request, deadline: float) -> Reply:
        response = await backend.handle_async_request(await _as_httpx(request, deadline))
        try:
            body, complete = await _read(response)
        finally:
            await response.aclose()
        return Reply(response.status_code, _headers(response), body, complete)


async def _as_httpx(request: Request, deadline: float) -> httpx.Request:
    """Return the request in types of httpx, made of parts: httpx itself takes long to make one."""
    made = httpx.Request(
        request.method,
        _url(request.url),
        headers=[(name.encode(), value.encode()) for name, value in request.headers.items()],
        stream=httpx.ByteStream(request.body or b""),
        extensions={"timeout": {"connect": deadline * CONNECT_SHARE}},
    )
    made.headers.encoding = "utf-8"
    await made.aread()
    return made


_QUOTED = re.compile(r"""\bb(['"]).*""", re.DOTALL)
"""What an error quotes of a reply that is no HTTP, to its end: the reply may repeat credentials."""

_url = lru_cache(maxsize=1024)(httpx.URL)
"""Most requests of a destination go to a few addresses."""


def _headers(response: httpx.Response) -> tuple[tuple[str, str], ...]:
    try:
        return tuple([(name.decode("ascii"), value.decode("ascii")) for name, value in response.headers.raw])
    except UnicodeDecodeError:
        return tuple(response.headers.multi_items())


async def _read(response: httpx.Response) -> tuple[bytes, bool]:
    """Read the raw body up to the limit; a connection lost on the way leaves it incomplete."""
    stream, room, chunks = response.stream, MAX_REPLY_BYTES, list[bytes]()
    assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101
    try:
        async for chunk in stream:
            chunks.append(chunk[:room])
            room -= len(chunk)
            if room < 0:
                return b"".join(chunks), False
    except (httpx.HTTPError, aiohttp.ClientError, OSError):
        return b"".join(chunks), False
    return b"".join(chunks), True


def _session(
    trusted: ssl.SSLContext, resolver: AbstractResolver | None, private_addresses: bool
) -> aiohttp.ClientSession:
    """Return a session of its own connections, which go to inner addresses only if they may."""
    guard = None if private_addresses else _guarded_socket
    return aiohttp.ClientSession(
        middlewares=(_once,),
        connector=_bounded(
            aiohttp.TCPConnector(limit=0, ssl=trusted, resolver=resolver, socket_factory=guard)
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None),
        skip_auto_headers={"Accept", "Content-Type"},
    )


def _guarded_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    """Return the socket that will be connected to the address in `info`, unless that is an inner one."""
    family, kind, protocol, _, address = info
    refuse_inner(str(address[0]))
    return socket.socket(family, kind, protocol)


def _bounded(connector: aiohttp.TCPConnector) -> aiohttp.TCPConnector:
    """Have `connector` give up replies without end: a flood of 1xx would hold up the whole loop."""
    receiving: type[ResponseHandler] = _Receiving
    # aiohttp has no public way to say who receives.
    connector._factory = partial(receiving, loop=asyncio.get_running_loop())
    return connector


class _Receiving(ResponseHandler):
    """Receives the replies on one connection, and gives up one that goes on without end."""

    _bytes = 0

    def set_response_params(self, **parameters: Any) -> None:
        """Be ready for the reply to one more request."""
        self._bytes = 0
        super().set_response_params(**parameters)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        super().data_received(data)
        self._bytes += len(data)
        body = 0 if self._payload is None else self._payload.total_bytes
        if self.exception() is not None:  # the body before it had another length than was said
            self._spoil("what follows is no reply")
        elif self._bytes - body > MAX_OVERHEAD_BYTES:
            why = f"more than {MAX_OVERHEAD_BYTES} bytes beside the body"
            self.set_exception(HttpProcessingError(message=why))
            self._spoil(why)
            if self.transport is not None:
                self.transport.abort()

    def is_connected(self) -> bool:
        """Tell whether the connection may be used again: not after a reply that nobody asked for."""
        return super().is_connected() and not len(self) and self.exception() is None

    def _spoil(self, why: str) -> None:
        if self._payload is not None:
            self._payload.set_exception(aiohttp.ClientPayloadError(why))


class _Lost(aiohttp.ClientConnectionError):
    """A connection lost after the request, or a part of it, was sent; the cause tells how."""


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send a request that aiohttp shall not repeat: each one that a receiver sees is an attempt of ours.

    By itself it sends PUT, DELETE and GET again after a lost connection, unless the error is another.
    """
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Lost(str(error)) from error


def _failure(error: Exception) -> Failure:
    cause = error.__cause__ or error
    if isinstance(cause, _Lost) and isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    if isinstance(cause, aiohttp.ClientConnectorError) and isinstance(cause.os_error, AddressRefused):
        return Failure("address_refused", cause.os_error.told_of(cause.host), False)
    said = cause.message if isinstance(cause, HttpProcessingError) else str(cause)
    if isinstance(cause, aiohttp.ServerDisconnectedError):  # it may name the headers that came before
        said = "Server disconnected"
    text = " ".join(f"{type(cause).__name__}: {_QUOTED.sub('', said)}".split())[:500]
    if isinstance(cause, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return Failure("bad_certificate", text, False)
    if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Failure("connect_failed", text, False)
    if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | httpx.InvalidURL | aiohttp.InvalidURL):
        return Failure("connect_failed", text, False)
    return Failure("connection_lost", text, True)
