"""The check of the console: that it answers, and shows nothing to strangers."""

from __future__ import annotations

import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from config import Settings, WebSettings

from .finding import CannotTell, Finding, State

ANSWER_SECONDS = 2.0
TURNED_AWAY = (303, 403)
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (it is where we connect instead)


def is_the_console(name: str, settings: Settings) -> Finding:
    """Check that what listens on the console's port is well, and sends strangers to sign in."""
    host = _EVERYWHERE.get(settings.web.address, settings.web.address)
    place = f"{host}:{settings.web.port}"
    try:
        health, said = _asked(host, settings.web, "/health")
        overview, _ = _asked(host, settings.web, "/")
    except ConnectionRefusedError:
        return Finding(name, State.WELL, f"nothing listens at {place}")
    except (OSError, HTTPException) as error:
        told = f"{place} does not answer as a web server: {type(error).__name__}: {error}"
        raise CannotTell(told, "see what listens there, or give web.port another number") from None
    if (health, said) != (200, b"OK\n"):
        told = f"{place}/health answers with {health}: that is not the console"
        return Finding(name, State.TROUBLE, told, "see what listens there, or give web.port another number")
    if overview not in TURNED_AWAY:
        told = f"{place} answers a stranger with {overview}"
        return Finding(name, State.TROUBLE, told, "stop what listens there, and start `python -m worker web`")
    return Finding(name, State.WELL, f"{place} answers, and sends strangers to sign in")


def _asked(host: str, settings: WebSettings, page: str) -> tuple[int, bytes]:
    connection = _connection(host, settings)
    try:
        connection.request("GET", page, headers={"Host": f"localhost:{settings.port}"})
        reply = connection.getresponse()
        return reply.status, reply.read(10)
    finally:
        connection.close()


def _connection(host: str, settings: WebSettings) -> HTTPConnection:
    if not settings.speaks_tls:
        return HTTPConnection(host, settings.port, timeout=ANSWER_SECONDS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # It is our own, asked for by its address: nothing is told to it, and of its answer only that it is one.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, settings.port, timeout=ANSWER_SECONDS, context=context)
