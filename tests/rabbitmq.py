"""A real RabbitMQ to test with: the one that is reachable, else one started from this machine's programs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import kombu
import pytest

from tests.brokers import LOCALHOST, PASSWORD
from tests.rig import eventually, free_port
from worker.processes import kill_group, start_process

VARIABLE = "TEST_RABBITMQ_URL"
READY_SECONDS = 60.0
USER = "shop"
_PACKAGED = Path("/usr/lib/rabbitmq/bin")
"""Where packages keep the programs themselves; on the path they put others, which change the user first."""


class RabbitMQ:
    """A RabbitMQ at `port`; it can be frozen, killed and started again where this process started it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.port = urlsplit(url).port or 5672
        self._argv: list[str] = []
        self._environment: dict[str, str] = {}
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[RabbitMQ]:
        """Give a RabbitMQ for the length of the block; skip the test where there is none."""
        if url := os.environ.get(VARIABLE):
            yield cls(url)
            return
        path = os.pathsep.join([str(_PACKAGED), os.environ["PATH"], "/usr/sbin"])
        program = shutil.which("rabbitmq-server", path=path)
        epmd = shutil.which("epmd", path=path)
        if program is None or epmd is None:
            pytest.skip(f"no RabbitMQ: install rabbitmq-server, or name a running one in {VARIABLE}")
        with ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="outbox-mq-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            server = cls(f"amqp://{USER}:{quote(PASSWORD, safe='')}@{LOCALHOST}:{free_port()}//")
            server._prepare(folder, program)
            with (folder / "epmd.log").open("ab") as log:
                names = start_process([epmd], log, server._environment)
            stack.callback(kill_group, names)
            stack.callback(server.kill)
            server.start()
            yield server

    @property
    def is_ours(self) -> bool:
        return bool(self._argv)

    def start(self) -> None:
        """Start it; return once it takes a login."""
        with (self._folder / "rabbitmq.log").open("ab") as log:
            self._process = start_process(self._argv, log, self._environment)
        eventually(self._answers, READY_SECONDS, "a RabbitMQ that answers")

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

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def _prepare(self, folder: Path, program: str) -> None:
        self._folder = folder
        self._argv = [program]
        config = folder / "rabbitmq.conf"
        config.write_text(
            f"listeners.tcp.default = {LOCALHOST}:{self.port}\n"
            f"default_user = {USER}\ndefault_pass = {PASSWORD}\ndefault_user_tags.administrator = true\n"
        )
        (folder / "plugins").write_text("[].\n")
        (folder / "env.conf").touch()
        self._environment = {
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": LOCALHOST,
            "RABBITMQ_NODENAME": f"outbox-{os.getpid()}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_LOGS": "-",
        }

    def _answers(self) -> bool:
        options = {"read_timeout": 1, "write_timeout": 1}
        with (
            suppress(OSError, kombu.exceptions.OperationalError),
            kombu.Connection(self.url, connect_timeout=1, transport_options=options) as c,
        ):
            c.ensure_connection(max_retries=0)
            return True
        return False
