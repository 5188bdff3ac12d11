"""Where secrets and sockets are kept is made for its owner alone, whatever the umask allows."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

import config
from tests.databases import on_sqlite
from tests.flowers import up
from tests.rig import Place, eventually, free_port, rig
from worker.broker import EmbeddedBroker, command
from worker.database import connect
from worker.flower_login import PASSWORD_FILE, flower_login

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has no such modes")

FOLDER, SOCKET, SECRET = 0o700, 0o700, 0o600


@pytest.fixture(autouse=True)
def _open_to_all() -> Iterator[None]:
    """Make whatever names no mode open to everyone."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a path that is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="outbox-"))
    yield folder
    shutil.rmtree(folder)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_brokers_folder_and_socket_are_its_owners(short: Path) -> None:
    state = short / "state"
    with EmbeddedBroker(state):
        assert (mode_of(state), mode_of(state / "broker.sock")) == (FOLDER, SOCKET)


def test_the_folder_of_a_socket_with_a_long_path_is_its_owners(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    with EmbeddedBroker(short / ("long" * 30)):
        (made,) = short.glob("outbox-*")
        assert (mode_of(made), mode_of(made / "broker.sock")) == (FOLDER, SOCKET)


def test_the_broker_listens_on_no_port_and_on_a_socket_of_its_own(short: Path) -> None:
    argv = command(short / "state")
    assert argv[argv.index("--port") + 1] == "0"
    assert argv[argv.index("--unixsocketperm") + 1] == f"{SOCKET:o}"


@pytest.mark.usefixtures("_no_settings_from_outside")
def test_the_password_made_for_flower_is_its_owners(tmp_path: Path) -> None:
    settings = config.load_settings()
    login = flower_login(settings)
    file = settings.state_dir / PASSWORD_FILE
    assert login.password.get_secret_value() == file.read_text().strip()
    assert (mode_of(settings.state_dir), mode_of(file)) == (FOLDER, SECRET)


def test_the_folder_of_a_database_is_its_owners(tmp_path: Path) -> None:
    connect(SecretStr(f"sqlite:///{tmp_path}/var/outbox.db")).dispose()
    assert mode_of(tmp_path / "var") == FOLDER


@on_sqlite
def test_the_whole_service_keeps_its_state_from_others(place: Place) -> None:
    with rig(place, flower_port=free_port()) as made, up(made):
        state = made.folder / "state"
        eventually(lambda: (state / PASSWORD_FILE).exists() and list(state.glob("*.log")))
        assert mode_of(state) == FOLDER
        assert mode_of(state / PASSWORD_FILE) == SECRET
