"""The whole service with its Flower, and whoever visits its pages."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlencode

from tests.nursery import Program
from tests.rig import Rig, eventually


@dataclass(frozen=True, slots=True)
class Answer:
    """What a page answered; status 0 where nobody did."""

    status: int
    body: bytes = b""
    headers: Message = field(default_factory=Message)

    @property
    def text(self) -> str:
        return self.body.decode()


class Visitor:
    """Someone with a browser's cookies, and a login or none.

    Args:
        base: the address of a Flower, without a path.
        login: name and password, with a colon between them.
    """

    def __init__(self, base: str, login: str | None = None) -> None:
        self.base = base
        self._cookies = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._cookies))
        encoded = base64.b64encode((login or "").encode()).decode()
        self._headers = {"Authorization": f"Basic {encoded}"} if login else {}

    def ask(self, method: str, path: str, data: bytes | None = None, **headers: str) -> Answer:
        given = {**self._headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        request = urllib.request.Request(self.base + path, data, given, method=method)
        try:
            with self._opener.open(request, timeout=30) as answer:
                return Answer(answer.status, answer.read(), answer.headers)
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read(), error.headers)
        except OSError:
            return Answer(0)

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def token(self) -> str:
        """Return what each form of the page of dead letters has, to show that it is of this page."""
        self.get("/dead-letters")
        return next(str(each.value) for each in self._cookies if each.name == "_xsrf")

    def press(self, verb: str, why: str, **fields: object) -> Answer:
        """Send a form of the page of dead letters as a browser does; return the page that follows."""
        form = {**fields, "verb": verb, "why": why, "_xsrf": self.token()}
        return self.ask("POST", "/dead-letters", urlencode(form).encode())

    def rows(self) -> dict[str, Any]:
        """Return the rows of Flower."""
        answer = self.get("/api/tasks")
        found: dict[str, Any] = json.loads(answer.text) if answer.status == 200 else {}
        return found


def get(url: str, login: str | None = None) -> tuple[int, bytes]:
    """Return the status of a page, 0 where nobody answers, and what is on it."""
    answer = Visitor(url, login).get("")
    return answer.status, answer.body


@contextmanager
def up(made: Rig) -> Iterator[subprocess.Popen[str]]:
    """Run the whole service as one command."""
    with (made.folder / "up.log").open("w") as log:
        process = Program[str](
            *("worker", "up", "--children", "1"),
            env=made.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def login_of(made: Rig) -> str:
    """Return the login of the service's Flower, once its password is made."""
    file = made.folder / "state" / "flower-password"
    return f"admin:{eventually(lambda: file.exists() and file.read_text().strip())}"


def is_ready(made: Rig) -> bool:
    """Tell whether the service's worker takes messages."""
    log = made.folder / "state" / "worker.log"
    return log.exists() and " ready." in log.read_text()
