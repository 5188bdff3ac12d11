"""A console on a real socket, and people with browsers of few wits: an HTTP client that keeps cookies."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any

import httpx
from argon2 import PasswordHasher

import config
from config import Role
from tests.rig import Rig, eventually
from worker.web.app import application
from worker.web.listening import listen
from worker.web.serving import server_of
from worker.web.users import users_of

PASSWORD = "correct horse battery"
CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
"""For people who sign in again and again."""
HASH = CHEAP.hash(PASSWORD)
NAMES = {Role.READER: "rita", Role.OPERATOR: "otto", Role.ADMINISTRATOR: "anna"}
USERS = ", ".join(
    f'{{ name = "{name}", role = "{role}", password_hash = "{HASH}" }}' for role, name in NAMES.items()
)
NO_AUTHORITY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Whom people trust by default: to read the authorities of the machine takes each of them 40 ms."""
_TOKEN = re.compile(r'name="token" value="([0-9a-f]{64})"')


class Person:
    """Somebody with a client of their own."""

    def __init__(self, base: str, verify: ssl.SSLContext = NO_AUTHORITY, **options: Any) -> None:
        self.base = base
        self.client = httpx.Client(base_url=base, verify=verify, timeout=20, trust_env=False, **options)
        self.token = ""

    def __enter__(self) -> Person:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(path, headers=headers)

    def post(self, path: str, fields: Mapping[str, str] | None = None, **headers: str) -> httpx.Response:
        """Send a form as a browser does that stands on a page of the console; a header of "" is left out."""
        sent = {"Origin": self.base, "Sec-Fetch-Site": "same-origin", **headers}
        sent = {name: value for name, value in sent.items() if value}
        return self.client.post(path, data={"token": self.token, **(fields or {})}, headers=sent)

    def sign_in(self, name: str, password: str = PASSWORD, **fields: str) -> httpx.Response:
        reply = self.post("/sign-in", {"name": name, "password": password, **fields})
        if reply.status_code == 303:
            self.token = _TOKEN.search(self.get("/").text)[1]  # type: ignore[index]
        return reply


class RunningConsole:
    """A console that answers at `base`."""

    def __init__(self, base: str, verify: ssl.SSLContext) -> None:
        self.base = base
        self._verify = verify

    def stranger(self) -> Person:
        return Person(self.base, verify=self._verify)

    def person(self, role: Role) -> Person:
        """Return somebody who is signed in."""
        person = self.stranger()
        assert person.sign_in(NAMES[role]).status_code == 303
        return person


@contextmanager
def console(made: Rig, verify: ssl.SSLContext = NO_AUTHORITY) -> Iterator[RunningConsole]:
    """Serve the console of a rig on a socket, in a thread."""
    with served(made.file, verify) as running:
        yield running


@contextmanager
def served(file: Path, verify: ssl.SSLContext = NO_AUTHORITY) -> Iterator[RunningConsole]:
    """Serve the console that a file configures."""
    configuration = config.load(file)
    settings = configuration.settings.web
    app = application(configuration, users_of(configuration.settings))
    server = server_of(app, settings)
    with listen(settings) as socket:
        thread = threading.Thread(target=server.run, args=([socket],), name="console", daemon=True)
        thread.start()
        eventually(lambda: server.started, what="a console that listens")
        try:
            scheme = "https" if settings.speaks_tls else "http"
            yield RunningConsole(f"{scheme}://127.0.0.1:{settings.port}", verify)
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


def text_of(reply: httpx.Response) -> str:
    """Return what a page says, without its elements and with single blanks."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", reply.text)).split())
