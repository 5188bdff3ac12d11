"""RabbitMQ in Redis's place, where there is one: as prompt, as bounded, and as dispensable."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
import trustme
from kombu.exceptions import OperationalError

import config
from orderflow_outbox.publishing import Publisher
from tasks.app import make_app
from tests.brokers import LOCALHOST, Proxy, deliver_by_hints, listening
from tests.databases import on_sqlite
from tests.rabbitmq import RabbitMQ
from tests.rig import Place, Rig, eventually, rig

pytestmark = on_sqlite

READY = " ready."
CANNOT = "cannot be used; messages are delivered without it"
CAN = "can be used again"


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMQ]:
    with RabbitMQ.running() as server:
        yield server


def settings(
    server: RabbitMQ, folder: Path, *, scheme: str = "amqp", host: str = "", password: str = "", ca: str = ""
) -> dict[str, str]:
    """Return what a rig is told of this server, or of a proxy before it."""
    parts = urlsplit(server.url)
    (folder / "password").write_text(password or unquote(parts.password or ""))
    keys = f'broker_password = {{ file = "{folder}/password" }}\n'
    if ca:
        keys += f'broker_ca_file = "{folder}/{ca}"\n'
    url = f"{scheme}://{parts.username}@{host or parts.netloc.rpartition('@')[2]}{parts.path}"
    return {"broker_url": url, "broker_keys": keys}


def hint_seconds(made: Rig) -> float:
    """Give a hint, which fails; return how long that took."""
    app = make_app(config.load_settings(made.file))
    begun = time.monotonic()
    with pytest.raises(OperationalError):
        Publisher(app)()
    return time.monotonic() - begun


def test_a_worker_is_woken_and_heard_by_way_of_rabbitmq(place: Place, rabbitmq: RabbitMQ) -> None:
    with rig(place, **settings(rabbitmq, place.folder)) as made, made.worker() as worker:
        eventually(lambda: worker.said(READY))
        app = make_app(config.load_settings(made.file))
        with listening(app) as heard:
            assert deliver_by_hints(made, app) < 8, "ten sleeps of a second each would take ten"
            eventually(lambda: "task-succeeded" in heard)
        assert app.control.ping(timeout=5, limit=1)
        assert not worker.said(CANNOT)


def test_rabbitmq_is_reached_over_tls_and_its_certificate_verified(place: Place, rabbitmq: RabbitMQ) -> None:
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(place.folder / "ca.pem"))
    other.cert_pem.write_to_path(str(place.folder / "other.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with Proxy.running(rabbitmq.port, tls=context) as proxy:
        told = {"scheme": "amqps", "host": f"localhost:{proxy.port}", "ca": "ca.pem"}
        with rig(place, **settings(rabbitmq, place.folder, **told)) as made, made.worker() as worker:
            eventually(lambda: worker.said(READY))
            assert deliver_by_hints(made, make_app(config.load_settings(made.file))) < 8
            for wrong, why in [
                ({"ca": "other.pem"}, "certificate verify failed"),
                ({"ca": ""}, "certificate verify failed"),
                ({"host": f"{LOCALHOST}:{proxy.port}"}, "IP address mismatch"),
            ]:
                keys = settings(rabbitmq, place.folder, **(told | wrong))
                (place.folder / "tls.toml").write_text(
                    f'broker_url = "{keys["broker_url"]}"\n{keys["broker_keys"]}'
                )
                with pytest.raises(OperationalError, match=why):
                    Publisher(make_app(config.load_settings(place.folder / "tls.toml")))()


def test_a_worker_that_rabbitmq_refuses_says_so_and_delivers(place: Place, rabbitmq: RabbitMQ) -> None:
    wrong = "wrong p@ss/w:rd"
    with (
        rig(place, **settings(rabbitmq, place.folder, password=wrong)) as made,
        made.worker() as worker,
    ):
        eventually(lambda: worker.said(CANNOT))
        made.orders(5)
        eventually(lambda: made.states() == {"delivered"})
        assert worker.said("ACCESS_REFUSED")
        log = worker.log.read_text()
        assert log.count(CANNOT) == 1
        assert wrong not in log
        assert quote(wrong, safe="") not in log


def test_hints_are_bounded_with_rabbitmq_frozen_or_gone(place: Place, rabbitmq: RabbitMQ) -> None:
    with Proxy.running(rabbitmq.port) as proxy:
        told = settings(rabbitmq, place.folder, host=f"{LOCALHOST}:{proxy.port}")
        with rig(place, **told) as made:
            Publisher(make_app(config.load_settings(made.file)))()
            proxy.swallow()
            assert hint_seconds(made) < 1
            proxy.cut()
            assert hint_seconds(made) < 1
    if rabbitmq.is_ours:
        with rig(place, **settings(rabbitmq, place.folder)) as made:
            rabbitmq.freeze()
            try:
                assert hint_seconds(made) < 1
            finally:
                rabbitmq.thaw()


def test_a_worker_outlives_a_restart_of_rabbitmq(place: Place, rabbitmq: RabbitMQ) -> None:
    if not rabbitmq.is_ours:
        pytest.skip("only a RabbitMQ that the test started is killed: have rabbitmq-server on this machine")
    with rig(place, **settings(rabbitmq, place.folder)) as made, made.worker() as worker:
        eventually(lambda: worker.said(READY))
        rabbitmq.kill()
        made.orders(10)
        eventually(lambda: made.states() == {"delivered"})
        eventually(lambda: worker.said(CANNOT))
        rabbitmq.start()
        returned = time.monotonic()
        eventually(lambda: worker.said(CAN))
        app = make_app(config.load_settings(made.file))
        assert deliver_by_hints(made, app) < 8
        with listening(app) as heard:
            eventually(lambda: made.order(f"SO-{time.monotonic_ns()}") and "task-succeeded" in heard)
        assert time.monotonic() - returned < 30
        log = worker.log.read_text()
        assert (log.count(CANNOT), log.count(CAN)) == (1, 1)
        assert "Traceback" not in log
