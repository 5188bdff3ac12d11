"""What the demo runs on: a simulator that misbehaves, a receiver of alerts, and the whole service."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from worker.supervisor import Part, Supervisor

from .shop import MISSING_PRODUCT, UNLUCKY_ORDER

PASSWORD_VARIABLE = "OUTBOX_DEMO_PASSWORD"  # noqa: S105 (a variable's name)
READY_SECONDS = 20.0
LOOK_SECONDS = 0.05
FAULTS = (
    f"500:operation=order-import,reference={UNLUCKY_ORDER}",
    "500:0.08",
    "unavailable:0.04",
    "slow:0.04:delay=0.4",
    "reset:0.04",
    "cut:0.04",
    "silent:0.05",
)

DESTINATIONS = """\
[destinations.main]
url = "{url}"
private_addresses = true
user = "shop"
password = {{ env = "{variable}" }}
window = 8
attempt_deadline = "2s"

[destinations.main.breaker]
failures = 8
share = 0.8
first_probe = "200ms"
longest_probe = "1s"

[destinations.main.retry]
retry_after = ["200ms", "400ms", "700ms", "1s", "1s", "1s"]
retry_after_header_max = "1s"
"""

OUTBOX = """\
database_url = {database_url}
state_dir = {state_dir}
destinations_file = "destinations.toml"

[engine]
lease = "10s"
sweep = "1s"
drain = "5s"

[alerts]
grouping = "1s"
reminder = "2s"
hooks = [{{ webhook = "{webhook}" }}]

[flower]
port = {flower_port}

[web]
port = {web_port}
"""


class StageFailed(Exception):
    """The demo's surroundings could not be set up."""


class AlertReceiver:
    """A webhook on loopback that keeps every alert as it was sent."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        received = self.alerts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                received.append(json.loads(self.rfile.read(length)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                """Say nothing: the demo shows the alert itself."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/alerts"

    @contextmanager
    def listening(self) -> Iterator[AlertReceiver]:
        """Receive alerts for the length of the block."""
        threading.Thread(target=self._server.serve_forever, name="demo-alerts", daemon=True).start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()


@contextmanager
def simulator(folder: Path, say: Callable[[str], None]) -> Iterator[str]:
    """Run a simulator with every fault on; yield its address."""
    faults = [word for fault in FAULTS for word in ("--fault", fault)]
    command = [sys.executable, "-u", "-m", "simulator", "--port", "0", "--seed", "1", *faults]
    part = Part("simulator", [*command, "--missing-product", MISSING_PRODUCT])
    with Supervisor([part], say, folder):
        yield _address(folder / "simulator.log")


def _address(log: Path) -> str:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
            _, ready, address = line.partition(" ready on ")
            if ready:
                return address.strip()
        time.sleep(LOOK_SECONDS)
    raise StageFailed(f"the simulator did not get ready within {READY_SECONDS:g} s")


def write_configuration(folder: Path, simulator_url: str, webhook: str) -> Path:
    """Write the demo's two configuration files, and point this process at them."""
    database = json.dumps(f"sqlite:///{folder}/shop.db")
    state_dir = json.dumps(str(folder / "state"))
    destinations = DESTINATIONS.format(url=simulator_url, variable=PASSWORD_VARIABLE)
    outbox = OUTBOX.format(
        database_url=database,
        state_dir=state_dir,
        webhook=webhook,
        flower_port=_free_port(),
        web_port=_free_port(),
    )
    (folder / "destinations.toml").write_text(destinations, encoding="utf-8")
    file = folder / "outbox.toml"
    file.write_text(outbox, encoding="utf-8")
    return file


@contextmanager
def environment(file: Path) -> Iterator[None]:
    """Let this process and its children read `file` and nothing else, for the length of the block."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("OUTBOX_", "FLOWER_"))]:
        del os.environ[name]
    os.environ.update({"OUTBOX_CONFIG": str(file), PASSWORD_VARIABLE: "demo"})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def ledger_of(simulator_url: str) -> dict[str, Any]:
    """Return what the simulator received and accepted."""
    address = urlsplit(simulator_url)
    connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=30)
    try:
        connection.request("GET", "/_simulator/ledger")
        ledger: dict[str, Any] = json.loads(connection.getresponse().read())
        return ledger
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
