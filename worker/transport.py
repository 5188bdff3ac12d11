"""One HTTP exchange, with one deadline for the whole of it.

httpx is driven at its transport interface, over aiohttp: a transport follows no redirects, keeps
no cookies and reads no proxy variables, and this one survives cancelled requests.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from functools import lru_cache
from types import TracebackType

import aiohttp
import httpx
from aiohttp.http import HttpProcessingError
from httpx_aiohttp import AiohttpTransport

from .deliveries import Failure, Reply, Request

MAX_REPLY_BYTES = 5 * 1024 * 1024
CONNECT_SHARE = 0.5
"""How much of the deadline connecting may take: past it, we know that nothing was sent."""


class Transport:
    """Sends requests for one engine; use it as an asynchronous context manager.

    Args:
        backend: the httpx transport to drive; by default httpx over aiohttp. Tests may pass a
            double such as `httpx.MockTransport`.
    """

    def __init__(self, backend: httpx.AsyncBaseTransport | None = None) -> None:
        self._backend = backend

    async def __aenter__(self) -> Transport:
        if self._backend is None:
            self._backend = AiohttpTransport(client=_session, trust_env=False)
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._backend is not None:
            await self._backend.aclose()

    async def send(self, request: Request, deadline: float) -> Reply | Failure:
        """Send `request` and read its answer, all within `deadline` seconds.

        Returns:
            The reply, or a failure that tells whether bytes may have left; nothing is raised for
            what a receiver or a network does.
        """
        assert self._backend is not None, "enter the transport first"  # noqa: S101
        try:
            async with asyncio.timeout(deadline):
                return await self._exchange(self._backend, request, deadline)
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
    stream, body = response.stream, bytearray()
    assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101
    try:
        async for chunk in stream:
            body += chunk
            if len(body) > MAX_REPLY_BYTES:
                return bytes(body[:MAX_REPLY_BYTES]), False
    except (httpx.HTTPError, aiohttp.ClientError, OSError):
        return bytes(body), False
    return bytes(body), True


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        middlewares=(_once,),
        connector=aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context()),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None),
        skip_auto_headers={"Accept", "Content-Type"},
    )


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
    said = cause.message if isinstance(cause, HttpProcessingError) else str(cause)
    text = " ".join(f"{type(cause).__name__}: {_QUOTED.sub('', said)}".split())[:500]
    if isinstance(cause, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return Failure("bad_certificate", text, False)
    if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Failure("connect_failed", text, False)
    if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | httpx.InvalidURL | aiohttp.InvalidURL):
        return Failure("connect_failed", text, False)
    return Failure("connection_lost", text, True)
