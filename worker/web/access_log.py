"""The access log: a line for each request, without queries, bodies or anything else that a browser sends."""

from __future__ import annotations

import logging
import time
from urllib.parse import quote

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from config import WebSettings

from .security import client_of

LONGEST_PATH = 200

log = logging.getLogger(__name__)


class AccessLog:
    """Writes a line once a reply is through: address, user, method, path, status and milliseconds."""

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have answered, and write the line."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.monotonic(), 0

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            who = scope.get("state", {}).get("user", "-")
            address = quote(client_of(Request(scope), self._settings), safe=":.") or "-"
            path = quote(scope["path"], safe="/:=@")[:LONGEST_PATH]
            took = (time.monotonic() - begun) * 1000
            log.info("%s %s %s %s %d %.0f ms", address, who, quote(scope["method"]), path, status, took)
