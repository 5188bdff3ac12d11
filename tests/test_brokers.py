"""Every kind of Redis wakes workers and is heard; a wrong certificate or password stops no delivery."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
import trustme
from celery import Celery
from kombu.exceptions import OperationalError

import config
from orderflow_outbox.publishing import Publisher
from tasks.app import make_app
from tests import nursery
from tests.brokers import LOCALHOST, PASSWORD, Proxy, RedisServer, deliver_by_hints, listening
from tests.databases import on_sqlite
from tests.rig import PROJECT, Place, Rig, eventually, rig

pytestmark = on_sqlite

READY = " ready."
CANNOT = "cannot be used; messages are delivered without it"
CAN = "can be used again"


@dataclass(frozen=True, slots=True)
class Known:
    """What a service is told of its broker."""

    url: str
    keys: str = ""
    server: RedisServer | None = None


Reached = AbstractContextManager[Known]


def password_in(folder: Path, password: str = PASSWORD) -> str:
    """Return the line that names a file with the password."""
    (folder / "password").write_text(f"{password}\n")
    return f'broker_password = {{ file = "{folder}/password" }}'


def acl_user(name: str) -> list[str]:
    """Return the options that give a server the user of this name in the manual."""
    manual = (PROJECT / "docs" / "brokers.md").read_text()
    (line,) = re.findall(rf"^user {name} .*$", manual, re.MULTILINE)
    return [f"--{line.split()[0]}", *line.replace("PASSWORD", PASSWORD).split()[1:]]


@contextmanager
def over_tcp(folder: Path) -> Iterator[Known]:
    with RedisServer(folder) as server:
        yield Known(f"redis://{LOCALHOST}:{server.port}/0", server=server)


@contextmanager
def with_password(folder: Path) -> Iterator[Known]:
    with RedisServer(folder, "--requirepass", PASSWORD) as server:
        yield Known(f"redis://{LOCALHOST}:{server.port}/0", password_in(folder))


@contextmanager
def as_a_user_with_few_rights(folder: Path) -> Iterator[Known]:
    with RedisServer(folder, *acl_user("outbox")) as server:
        yield Known(f"redis://outbox@{LOCALHOST}:{server.port}/0", password_in(folder), server)


@contextmanager
def as_a_user_who_may_not_call(folder: Path) -> Iterator[Known]:
    known = [each for each in acl_user("outbox") if each != "~orderflow*"]
    with RedisServer(folder, *known, "~orderflow", "~orderflow[^.]*") as server:
        yield Known(f"redis://outbox@{LOCALHOST}:{server.port}/0", password_in(folder))


@contextmanager
def over_a_socket(folder: Path) -> Iterator[Known]:
    with RedisServer(folder, "--requirepass", PASSWORD, on_socket=True) as server:
        yield Known(f"redis+socket://{server.socket}", password_in(folder))


@contextmanager
def over_tls(folder: Path) -> Iterator[Known]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    with tls_server(folder, authority.issue_cert("localhost")) as port:
        keys = f'{password_in(folder)}\nbroker_ca_file = "{folder}/ca.pem"'
        yield Known(f"rediss://localhost:{port}/0", keys)


@contextmanager
def tls_server(folder: Path, certificate: trustme.LeafCert) -> Iterator[int]:
    """Run a server that speaks TLS, and asks for a password, at the port given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    with (
        RedisServer(folder, "--requirepass", PASSWORD) as server,
        Proxy.running(server.port, tls=context) as proxy,
    ):
        yield proxy.port


def told(made: Rig) -> str:
    """Return all that was logged."""
    return "".join(file.read_text(errors="replace") for file in made.folder.rglob("*.log"))


def app_of(made: Rig) -> Celery:
    return make_app(config.load_settings(made.file))


@pytest.mark.parametrize(
    "reach",
    [
        pytest.param(over_tcp, marks=pytest.mark.soak),
        pytest.param(with_password, marks=pytest.mark.soak),
        as_a_user_with_few_rights,
        as_a_user_who_may_not_call,
        over_a_socket,
        over_tls,
    ],
)
def test_a_worker_is_woken_and_heard(place: Place, reach: Callable[[Path], Reached]) -> None:
    with (
        reach(place.folder) as known,
        rig(place, broker_url=known.url, broker_keys=known.keys) as made,
        made.worker() as worker,
    ):
        eventually(lambda: worker.said(READY))
        app = app_of(made)
        with listening(app) as heard:
            assert deliver_by_hints(made, app) < 8, "ten sleeps of a second each would take ten"
            eventually(lambda: "task-succeeded" in heard)
        assert app.control.ping(timeout=5, limit=1)
        assert CANNOT not in told(made)
        assert PASSWORD not in told(made)
        if known.server is not None:
            client = redis.Redis(port=known.server.port, decode_responses=True)
            assert client.acl_log() == [], "nothing was forbidden that is needed"


def test_a_user_that_may_only_give_hints_can(place: Place) -> None:
    with (
        RedisServer(place.folder, *acl_user("shop")) as server,
        rig(
            place,
            broker_url=f"redis://shop@{LOCALHOST}:{server.port}/0",
            broker_keys=password_in(place.folder),
        ) as made,
    ):
        Publisher(app_of(made))()
        client = redis.Redis(port=server.port)
        assert client.llen("orderflow") == 1
        assert client.acl_log() == []


def test_a_password_written_into_the_address_works_too(place: Place) -> None:
    with (
        RedisServer(place.folder, "--requirepass", PASSWORD) as server,
        rig(place, broker_url=f"redis://:{quote(PASSWORD, safe='')}@{LOCALHOST}:{server.port}/0") as made,
    ):
        Publisher(app_of(made))()


# Certificates


def test_a_certificate_that_cannot_be_verified_is_refused(place: Place) -> None:
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(place.folder / "ca.pem"))
    other.cert_pem.write_to_path(str(place.folder / "other.pem"))
    password = password_in(place.folder)
    with tls_server(place.folder, authority.issue_cert("localhost")) as port:

        def hint(host: str, ca_file: str) -> None:
            keys = f"broker_url = 'rediss://{host}:{port}/0'\n{password}\n"
            if ca_file:
                keys += f'broker_ca_file = "{place.folder}/{ca_file}"\n'
            (place.folder / "tls.toml").write_text(keys)
            Publisher(make_app(config.load_settings(place.folder / "tls.toml")))()

        hint("localhost", "ca.pem")
        for host, ca_file, why in [
            ("localhost", "other.pem", "certificate verify failed"),
            ("localhost", "", "certificate verify failed"),
            (LOCALHOST, "ca.pem", "IP address mismatch"),
        ]:
            with pytest.raises(OperationalError, match=why):
                hint(host, ca_file)


def test_a_worker_that_does_not_trust_its_broker_says_so_and_delivers(place: Place) -> None:
    trustme.CA().cert_pem.write_to_path(str(place.folder / "ca.pem"))
    keys = f'{password_in(place.folder)}\nbroker_ca_file = "{place.folder}/ca.pem"'
    with (
        tls_server(place.folder, trustme.CA().issue_cert("localhost")) as port,
        rig(place, broker_url=f"rediss://localhost:{port}/0", broker_keys=keys) as made,
        made.worker() as worker,
    ):
        made.orders(5)
        eventually(lambda: made.states() == {"delivered"})
        eventually(lambda: worker.said(CANNOT))
        assert worker.said("certificate verify failed")
        assert not worker.said(READY)
        assert PASSWORD not in told(made)


# Passwords


def test_a_worker_with_a_wrong_password_says_so_and_delivers(place: Place) -> None:
    wrong = f"wrong-{PASSWORD}"
    with (
        RedisServer(place.folder, "--requirepass", PASSWORD) as server,
        rig(
            place,
            broker_url=f"redis://{LOCALHOST}:{server.port}/0",
            broker_keys=password_in(place.folder, wrong),
        ) as made,
        made.worker() as worker,
    ):
        made.orders(5)
        eventually(lambda: made.states() == {"delivered"})
        eventually(lambda: worker.said(CANNOT))
        assert worker.said("invalid username-password pair")
        assert wrong not in told(made)
        redis.Redis(port=server.port, password=PASSWORD).config_set("requirepass", wrong)
        eventually(lambda: worker.said(READY))
        assert deliver_by_hints(made, app_of(made)) < 8


def test_a_worker_whose_broker_forbids_a_command_says_so_once_and_delivers(place: Place) -> None:
    options = ["--user", "shop", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-brpop"]
    with (
        RedisServer(place.folder, *options) as server,
        rig(
            place,
            broker_url=f"redis://shop@{LOCALHOST}:{server.port}/0",
            broker_keys=password_in(place.folder),
        ) as made,
        made.worker() as worker,
    ):
        client = redis.Redis(port=server.port, decode_responses=True)
        made.orders(5)
        eventually(lambda: made.states() == {"delivered"})
        assert seconds_between_tries(client) > 2, "it does not try again at once"
        assert told(made).count(CANNOT) == 1
        assert worker.process.poll() is None
        client.execute_command("ACL", "SETUSER", "shop", "+brpop")
        eventually(lambda: worker.said(CAN))
        assert "Traceback" not in told(made)


def seconds_between_tries(client: redis.Redis) -> float:
    """Return how long after a forbidden command the next was tried."""

    def tries() -> int:
        return sum(entry["count"] for entry in client.acl_log())

    first, begun = eventually(tries), time.monotonic()
    eventually(lambda: tries() > first)
    return time.monotonic() - begun


def test_a_command_says_in_one_line_that_the_brokers_password_is_missing(place: Place) -> None:
    keys = 'broker_password = { env = "NOT_SET" }'
    with rig(place, broker_url=f"redis://{LOCALHOST}:1/0", broker_keys=keys) as made:
        done = nursery.run("celery", "-A", "tasks", "report", env=made.environment)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "broker_password is not to be had from environment variable NOT_SET: put it there"
    )
