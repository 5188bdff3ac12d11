"""What every request and every reply goes through: names of hosts, origins, sizes, headers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from config import WebSettings
from config.values import is_loopback

BODY_SECONDS = 10.0
"""How long the body of a request may take to come."""
MOST_FIELDS = 100

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_ONE_YEAR = "max-age=31536000"


class TooMuch(Exception):
    """The body of a request is larger than what is asked for can be, or too slow, or no form."""


class Guard:
    """Turns away requests for hosts that are not ours, and gives every reply its headers."""

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        self._app = app
        self._settings = settings
        self._hosts = {_bare(settings.address), *map(_bare, settings.hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or have answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
                if is_https(HTTPConnection(scope), self._settings):
                    headers["Strict-Transport-Security"] = _ONE_YEAR
            await send(message)

        app = self._app if self._is_ours(scope) else _another_host
        await app(scope, receive, send_guarded)

    def _is_ours(self, scope: Scope) -> bool:
        """Tell whether a request asks for a name of ours: any other one may lead here by somebody's doing."""
        given = [value for name, value in scope["headers"] if name == b"host"]
        if len(given) != 1:
            return False
        host = host_of(given[0].decode("latin-1"))
        return is_loopback(_bare(host)) or _bare(host) in self._hosts


_another_host = PlainTextResponse(
    "This is not a name of the console. Give it in web.hosts, and have a proxy hand on the Host asked for.\n",
    status_code=421,
)


def host_of(header: str) -> str:
    """Return the name of a host without its port, as a `Host` has them; "" of what is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _bare(host: str) -> str:
    return host.lower().strip("[]").rstrip(".")


def is_https(request: HTTPConnection, settings: WebSettings) -> bool:
    """Tell whether the browser speaks https, with us or with the proxy that is before us.

    What is reached by a name of this machine may be reached without; beyond it nothing is.
    """
    if settings.speaks_tls:
        return True
    return not is_loopback(host_of(request.headers.get("host", "")))


def is_same_origin(request: Request, settings: WebSettings) -> bool:
    """Tell whether a form that was sent is one of ours, by what the browser says of where it stood."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    scheme = "https" if is_https(request, settings) else "http"
    ours = f"{scheme}://{request.headers.get('host', '')}".lower()
    if site is not None:
        # Where a browser or a proxy is stricter than our Referrer-Policy, the origin is "null".
        return site == "same-origin" and origin in (None, "null", ours)
    return origin is not None and origin.lower() == ours


def client_of(request: Request, settings: WebSettings) -> str:
    """Return the address that a request comes from, beyond proxies that are trusted; "" of none."""
    peer = request.client.host if request.client else ""
    if not settings.is_trusted(peer):
        return peer
    handed_on = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
    for address in map(str.strip, reversed(handed_on)):
        if address and not settings.is_trusted(address):
            return address[:64]
    return peer


async def form_of(request: Request, most_bytes: int) -> Mapping[str, str]:
    """Return the fields of a form, of each the first.

    Args:
        most_bytes: of the body.

    Raises:
        TooMuch: it is larger, too slow, of another type, or no UTF-8.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        raise TooMuch
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _body(request, most_bytes)
        fields = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict"
        )
    except (TimeoutError, ClientDisconnect, ValueError):
        raise TooMuch from None
    form: dict[str, Any] = {}
    for name, value in fields:
        form.setdefault(name, value)
    return form


async def _body(request: Request, most_bytes: int) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most_bytes:
            raise TooMuch
    return bytes(body)
