"""A service of docker-compose.yml as a process of this machine, without Docker.

Its command and its health check are run as they stand in the file, with the service's own
environment and no other. Only what a container has of its own is put in its place: host names
become loopback, ports free ones, /run/secrets and /app folders of the test.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

PORTS = ("5432", "6379", "5555", "8808", "8880")
HOSTS = re.compile(r"\b(postgres|redis|simulator)(?=:\d)|0\.0\.0\.0")
DEFAULT_GRACE_SECONDS = 10.0


def seconds(duration: str) -> float:
    """Return the seconds of a duration as the file has it: `45s`."""
    return float(duration.removesuffix("s"))


class Here:
    """Where the containers' hosts, ports and folders are on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))

    def port(self, inside: str) -> int:
        """Return the port that stands for a container's."""
        return self._ports[inside]

    def put(self, text: str) -> str:
        """Return a text of the file as it has to be here."""
        text = text.replace("$$", "$")  # the file's way of writing one that is not for Docker
        text = text.replace("/run/secrets", f"{self.folder}/secrets").replace("/app/", f"{self.folder}/app/")
        text = HOSTS.sub("127.0.0.1", text)
        return re.sub(rf"\b({'|'.join(PORTS)})\b", lambda port: str(self._ports[port[1]]), text)


class Service:
    """One service of the file, as a process of this machine."""

    def __init__(self, name: str, description: dict[str, Any], here: Here, path: str) -> None:
        self.name = name
        self.description = description
        self.here = here
        self.log = here.folder / f"{name}.log"
        self.cwd = here.folder / "app"
        self.process: subprocess.Popen[bytes] | None = None
        self.as_user: dict[str, Any] = {}
        self.stop_signal = signal.SIGTERM
        given = description.get("environment", {})
        self.environment = {
            "PATH": path,
            "HOME": str(here.folder),
            "LC_ALL": "C.UTF-8",
            **{key: here.put(value) for key, value in given.items()},
        }

    def start(self) -> None:
        """Start it by the command that stands in the file."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.here.put(word) for word in self.description["command"]],
                cwd=self.cwd,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self.as_user,
            )

    def is_healthy(self) -> bool:
        """Run its health check once, as the file has it, within the time it has there."""
        check = self.description["healthcheck"]
        kind, *words = (self.here.put(word) for word in check["test"])
        assert kind in {"CMD", "CMD-SHELL"}
        try:
            done = self.run(["sh", "-c", *words] if kind == "CMD-SHELL" else words, seconds(check["timeout"]))
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def run(
        self, command: list[str], timeout: float = 30.0, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command where the service runs, as `docker compose exec` does."""
        return subprocess.run(
            command,
            cwd=self.cwd,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def has_ended(self) -> bool:
        """Tell whether it has ended by itself."""
        assert self.process is not None
        return self.process.poll() is not None

    def end(self) -> int:
        """Return its exit status, once it has ended by itself."""
        assert self.process is not None
        return self.process.wait(30)

    def processes(self) -> list[int]:
        """Return every process of the service."""
        return _family(self.process.pid) if self.process else []

    def signal_all(self, number: signal.Signals) -> None:
        """Signal every process of the service."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def stop(self) -> int:
        """Stop it as Docker does; return its exit status, or fail once its grace period is over."""
        assert self.process is not None
        self.process.send_signal(self.stop_signal)
        grace = self.description.get("stop_grace_period")
        return self.process.wait(seconds(grace) if grace else DEFAULT_GRACE_SECONDS)

    def kill(self) -> None:
        """Leave nothing of it."""
        self.signal_all(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()


def _family(process: int) -> list[int]:
    """Return a process and all that descend from it."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [process, *(each for child in children for each in _family(int(child)))]


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
