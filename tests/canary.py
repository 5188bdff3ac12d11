"""A secret that can be recognised in every form, receivers that repeat it, and where it is looked for."""

from __future__ import annotations

import base64
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import quote, quote_plus

import redis
import trustme
from sqlalchemy import Engine, select

from orderflow_outbox.tables import metadata

SECRET_FILE = "secret"
"""Where the secret is kept: the only file that may have it."""
USER = "shop"
CANARY = 'canary 7f3a & <9"d2>+/b%'
ALONE = base64.b64encode(CANARY.encode()).decode()
PAIR = base64.b64encode(f"{USER}:{CANARY}".encode()).decode()
FORMS = {
    "plain": CANARY,
    "escaped": escape(CANARY),
    "base64": ALONE,
    "base64 of the pair": PAIR,
    **{f"quoted {name}": quote(text, safe="") for name, text in (("plain", CANARY), ("pair", PAIR))},
    "quoted as a path": quote(CANARY),
    "quoted as a form": quote_plus(CANARY),
    "in JSON": CANARY.replace('"', '\\"'),
}
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4}){6,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_SAID = " ".join(FORMS.values())
_LINE = _SAID.encode()
_PAGE = f"<html><body><h2>ERROR</h2><p>bad login {escape(_SAID)}</p></body></html>".encode()
_REPORT = (
    '<importResult><importSuccesses/><importDuplicates/><importFailures><import type="order"'
    f' operation="insert" externalReference="SO-1"><failureMessage>{escape(_SAID)}</failureMessage>'
    "</import></importFailures>"
    "</importResult>"
).encode()


def _answer(status: str, body: bytes, *headers: bytes) -> bytes:
    head = [f"HTTP/1.1 {status}".encode(), b"Content-Length: %d" % len(body), b"Connection: close", *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


_ECHO = (
    b"X-Echo: " + _LINE,
    b"Set-Cookie: login=" + quote(CANARY).encode(),
    b"X-" + ALONE[:12].encode() + b": 1",
)

ANSWERS = {
    "unauthorized": _answer(f"401 {CANARY}", _PAGE, b'WWW-Authenticate: Basic realm="' + _LINE + b'"'),
    "page": _answer("200 OK", _PAGE, b"Content-Type: text/html", *_ECHO),
    "rejected": _answer("200 OK", _REPORT, b"Content-Type: application/xml", *_ECHO),
    "forbidden": _answer("403 Forbidden", _LINE, *_ECHO),
    "unavailable": _answer("503 Unavailable", _LINE, b"Retry-After: " + _LINE),
    "redirect": _answer("302 Found", _LINE, b"Location: https://a.test/?p=" + quote(CANARY).encode()),
    "cut": _answer("200 OK", _PAGE, *_ECHO)[:-20],
    "header": b"HTTP/1.1 200 OK\r\nX Login " + _LINE + b": 1\r\n\r\n",
    "long-header": b"HTTP/1.1 200 OK\r\nX-Login: " + _LINE * 100 + b"\r\n\r\n",
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: " + _LINE + b"\r\n\r\n",
    "status-line": b"HTTP/1.1 " + _LINE + b"\r\n\r\n",
    "no-http": _LINE + b"\r\n\r\n",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + _LINE + b"\r\n",
    "silent": b"",
}
"""By the first part of the address, what is answered."""


class _Repeater(StreamRequestHandler):
    """Answers as its address says, and repeats the credentials wherever it can."""

    server: _Server

    def handle(self) -> None:
        kind = self.rfile.readline().split(b" ")[1].split(b"/")[1].decode()
        length, login = 0, ""
        while line := self.rfile.readline().strip():
            name, _, value = line.decode().partition(": ")
            length = int(value) if name.lower() == "content-length" else length
            login = value if name.lower() == "authorization" else login
        self.rfile.read(length)
        assert login == f"Basic {PAIR}"
        self.server.asked.add(kind)
        self.wfile.write(ANSWERS[kind])
        if kind == "silent":
            self.server.over.wait(30)


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128  # who is not let in at once would wait for a second

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Repeater)
        self.asked: set[str] = set()
        self.over = threading.Event()

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a client that has gone."""


@contextmanager
def _serving(server: _Server) -> Iterator[int]:
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()


@contextmanager
def receivers() -> Iterator[tuple[dict[str, str], set[str]]]:
    """Yield an address for each way to fail, and the set of those that were asked with the right login."""
    plain, encrypted = _Server(), _Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    encrypted.socket = context.wrap_socket(encrypted.socket, server_side=True)
    with socket.socket() as nobody, _serving(plain) as port, _serving(encrypted) as tls_port:
        nobody.bind(("127.0.0.1", 0))
        urls = {kind: f"http://127.0.0.1:{port}/{kind}" for kind in ANSWERS}
        urls["refused"] = f"http://127.0.0.1:{nobody.getsockname()[1]}/refused"
        urls["certificate"] = f"https://127.0.0.1:{tls_port}/page"
        yield urls, plain.asked


def found_in(where: dict[str, str]) -> list[str]:
    """Return the places that hold the secret, each with the form it has there."""
    return [
        f"{place}: {name}"
        for place, text in ((place, decoded(text)) for place, text in where.items())
        for name, form in FORMS.items()
        if form in text
    ]


def decoded(text: str) -> str:
    """Return a text, and behind it what it holds in base64, as the messages of a broker do."""
    inside = [base64.b64decode(piece).decode("utf-8", "replace") for piece in _BASE64.findall(text)]
    return "\n".join([text, *inside])


def stored(engine: Engine) -> dict[str, str]:
    """Return every column of every table of the outbox as one text."""
    with engine.connect() as connection:
        return {
            f"{table.name}.{column.name}": "\n".join(map(_text, connection.scalars(select(column))))
            for table in metadata.sorted_tables
            for column in table.columns
        }


def _text(value: object) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | memoryview) else str(value)


def files(folder: Path) -> dict[str, str]:
    """Return every file below a folder as text: logs, and a database of SQLite with all its pages."""
    return {
        str(file): file.read_bytes().decode("utf-8", "replace")
        for file in folder.rglob("*")
        if file.is_file() and file.name != SECRET_FILE
    }


def kept_by_broker(path: Path) -> set[str]:
    """Return every key of a broker with its value."""
    client = redis.Redis(unix_socket_path=str(path), decode_responses=True)
    look: dict[str, Any] = {
        "string": client.get,
        "hash": client.hgetall,
        "set": client.smembers,
        "list": lambda key: client.lrange(key, 0, -1),
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "none": lambda _: "which was gone a moment later",
    }
    with client:
        return {f"{key} {look[client.type(key)](key)}" for key in client.scan_iter()}


@contextmanager
def monitored(path: Path) -> Iterator[list[bytes]]:
    """Yield all that goes through a broker meanwhile, as it comes."""
    heard: list[bytes] = []

    def listen() -> None:
        while piece := ear.recv(65536):
            heard.append(piece)

    with socket.socket(socket.AF_UNIX) as ear:
        ear.connect(str(path))
        ear.sendall(b"MONITOR\r\n")
        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        yield heard
        ear.shutdown(socket.SHUT_RDWR)
        listener.join(10)
