"""Where alerts arrive: a file, a webhook and a mailbox, each behind a real hook."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from pydantic import SecretStr

from config import Hook
from config.values import SecretSource
from worker.hooks import running
from worker.hooks.running import Job

WRITE_A_LINE = """alert=$(cat); printf '%s\\n' "$alert" >> "$0" """

NEVER_TAKES = Hook(webhook=SecretSource(env="NOWHERE"))
"""A hook that fails, and that no process is started for."""


def write_at_once(patch: pytest.MonkeyPatch) -> None:
    """Have this process write what a `Desk` is told: two of its own for each alert take a tenth of a second.

    For what is told when. That a hook is a process is what test_hooks is about.
    """
    run = running._run

    def write(job: Job, timeout: timedelta) -> None:
        words = job.hook.command or []
        if WRITE_A_LINE not in words:
            run(job, timeout)
            return
        with Path(words[-1]).open("a") as file:
            file.write(f"{json.dumps(dict(job.document))}\n")

    patch.setattr(running, "_run", write)


class Desk:
    """A command hook that writes each alert to a file, a line each."""

    def __init__(self, folder: Path, name: str = "alerts", **routing: Any) -> None:
        self._file = folder / f"{name}.jsonl"
        self.hook = Hook(command=["/bin/sh", "-c", WRITE_A_LINE, str(self._file)], **routing)

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def text(self) -> str:
        return self._file.read_text() if self._file.exists() else ""


class Webhook(ThreadingHTTPServer):
    """A receiver of alerts on loopback."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.got: list[tuple[str, str, dict[str, Any]]] = []
        self.status = 200
        self.answering = threading.Event()
        self.answering.set()

    @classmethod
    @contextmanager
    def listening(cls) -> Iterator[Webhook]:
        """Receive alerts for the length of the block."""
        server = cls()
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield server
        finally:
            server.answering.set()
            server.shutdown()
            server.server_close()

    @property
    def hook(self) -> Hook:
        return Hook(webhook=SecretStr(f"http://127.0.0.1:{self.server_port}/desk?token=hush"))


class _Receiver(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((self.path, self.headers["Content-Type"], document))
        self.server.answering.wait(10)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Mailbox:
    """A mail server on loopback that keeps what it gets."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Mailbox]:
        """Take mail for the length of the block."""
        mailbox = cls()
        server = Controller(mailbox, hostname="127.0.0.1", port=mailbox.port)
        server.start()
        try:
            yield mailbox
        finally:
            server.stop()

    @property
    def address(self) -> str:
        return f"mailto://127.0.0.1:{self.port}/desk@shop.test?from=outbox@shop.test"
