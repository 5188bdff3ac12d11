"""The embedded broker, with the real server."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import kombu
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker import broker
from worker.broker import BrokerNotReady, BrokerRefused, EmbeddedBroker, broker_url, command, wait_ready

PROJECT = Path(__file__).resolve().parents[1]
SCHEME = "redis+socket://"
HOLD_A_BROKER = """
import sys, time
from pathlib import Path
from worker.broker import EmbeddedBroker
with EmbeddedBroker(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def state_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # pytest's own folders may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="ob-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder) / "state"


def eventually(is_so: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def socket_of(state_dir: Path) -> Path:
    return Path(unquote(broker_url(state_dir).removeprefix(SCHEME)))


def client_of(state_dir: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(socket_of(state_dir)), retry=Retry(NoBackoff(), 0))


def answers(state_dir: Path) -> bool:
    try:
        return bool(client_of(state_dir).ping())
    except redis.ConnectionError:
        return False


def hold_a_broker(state_dir: Path) -> subprocess.Popen[bytes]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_A_BROKER, str(state_dir)], stdout=subprocess.PIPE, cwd=PROJECT
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n"
    return holder


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def test_clients_connect_by_its_url(state_dir: Path) -> None:
    with EmbeddedBroker(state_dir), kombu.Connection(broker_url(state_dir)) as connection:
        queue = connection.SimpleQueue("hints")
        queue.put("wake up")
        assert queue.get(timeout=5).payload == "wake up"
        queue.close()


def test_it_speaks_redis_and_listens_on_no_network(state_dir: Path) -> None:
    with EmbeddedBroker(state_dir):
        client = client_of(state_dir)
        assert client.config_get("port") == {"port": "0"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_it_keeps_nothing(state_dir: Path) -> None:
    with EmbeddedBroker(state_dir):
        client_of(state_dir).set("hint", "1")
    assert [file.name for file in state_dir.iterdir()] == ["broker.log"]
    with EmbeddedBroker(state_dir):
        assert client_of(state_dir).get("hint") is None


def test_only_its_owner_can_reach_it(state_dir: Path) -> None:
    with EmbeddedBroker(state_dir):
        assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
        assert stat.S_IMODE(socket_of(state_dir).stat().st_mode) == 0o700


def test_it_is_gone_after_stop_and_stop_may_be_repeated(state_dir: Path) -> None:
    server = EmbeddedBroker(state_dir)
    server.start()
    server.stop()
    server.stop()
    assert not answers(state_dir)


def test_its_url_is_known_before_it_runs(state_dir: Path) -> None:
    before = broker_url(state_dir)
    assert before == f"{SCHEME}{state_dir.resolve()}/broker.sock"
    with EmbeddedBroker(state_dir):
        assert broker_url(state_dir) == before


def test_a_path_with_a_space_works(state_dir: Path) -> None:
    folder = state_dir / "Süd & Co; 100% sure?"
    with EmbeddedBroker(folder), kombu.Connection(broker_url(folder)) as connection:
        connection.connect()
        assert answers(folder)


def test_a_path_too_long_for_a_socket_works(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = state_dir / ("long" * 30)
    before = broker_url(folder)
    with EmbeddedBroker(folder), kombu.Connection(before) as connection:
        connection.connect()
        assert stat.S_IMODE(socket_of(folder).parent.stat().st_mode) == 0o700
        monkeypatch.setattr(tempfile, "tempdir", "/elsewhere")
        assert broker_url(folder) == before


def test_a_folder_others_may_write_to_is_not_used_for_the_socket(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_dir.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(state_dir))
    folder = state_dir / ("long" * 30)
    planted = socket_of(folder).parent
    planted.mkdir()
    planted.chmod(0o777)
    with pytest.raises(BrokerRefused, match="not a folder of this user alone"):
        command(folder)


def test_a_symlink_is_not_used_for_the_socket(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = state_dir / "target"
    target.mkdir(mode=0o700, parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(state_dir))
    folder = state_dir / ("long" * 30)
    socket_of(folder).parent.symlink_to(target)
    with pytest.raises(BrokerRefused, match="not a folder of this user alone"):
        command(folder)


def test_a_second_broker_in_the_same_folder_is_refused(state_dir: Path) -> None:
    with EmbeddedBroker(state_dir):
        with pytest.raises(BrokerRefused, match="another broker is answering") as refusal:
            EmbeddedBroker(state_dir).start()
        assert "\n" not in str(refusal.value)
        assert answers(state_dir)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_killed_parent_takes_its_broker_along(state_dir: Path) -> None:
    holder = hold_a_broker(state_dir)
    assert answers(state_dir)
    kill(holder)
    assert eventually(lambda: not answers(state_dir))


def test_a_socket_left_by_a_killed_server_does_not_hinder_the_next(state_dir: Path) -> None:
    holder = hold_a_broker(state_dir)
    os.kill(client_of(state_dir).info("server")["process_id"], signal.SIGKILL)
    kill(holder)
    assert eventually(lambda: not answers(state_dir))
    assert socket_of(state_dir).exists()
    with EmbeddedBroker(state_dir):
        assert answers(state_dir)


def test_a_broker_that_cannot_start_shows_its_log(state_dir: Path) -> None:
    socket_of(state_dir).mkdir(parents=True)
    (socket_of(state_dir) / "in the way").touch()
    with pytest.raises(BrokerNotReady, match=r"(?s)ended at once: .*Failed opening Unix socket"):
        EmbeddedBroker(state_dir).start()


def test_waiting_for_a_broker_that_never_comes_ends(state_dir: Path) -> None:
    with pytest.raises(BrokerNotReady, match=r"within 0\.05 s: it wrote no log"):
        wait_ready(state_dir, timeout=0.05)


def test_a_broker_that_does_not_stop_is_killed(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "STOP_SECONDS", 0.1)
    with EmbeddedBroker(state_dir):
        server = client_of(state_dir).info("server")["process_id"]
        os.kill(server, signal.SIGSTOP)
    assert not answers(state_dir)
