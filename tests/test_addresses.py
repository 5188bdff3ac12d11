"""No destination is at an address of this machine or of its networks, unless its configuration says so."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from sqlalchemy import Engine as Database
from sqlalchemy import select

from config import ConfigError, Configuration, is_inner, load
from orderflow_outbox.tables import gate, incident
from tests.databases import on_sqlite
from tests.rig import Place, eventually, rig
from worker.deliveries import Failure, Reply, Request
from worker.engine import Engine
from worker.engine_thread import EngineThread
from worker.ports import announce_nothing, wake_nobody
from worker.store.transactions import Store
from worker.transport import Transport

NAME = "orderflow.example"
PUBLIC = "192.88.99.1"
"""Of the public internet by every registry, and of nobody."""

INNER = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::1%lo",
    "::127.0.0.1",
    "::8.8.8.8",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
    "2001:0:7f00:1::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "2002:7f00:1::1",
    "2002:a00:1::",
]
OUTER = [
    "8.8.8.8",
    "1.1.1.1",
    "172.15.255.255",
    "172.32.0.1",
    "100.63.255.255",
    "100.128.0.1",
    PUBLIC,
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]


@pytest.mark.parametrize("address", INNER)
def test_an_address_of_this_machine_or_its_networks_is_inner(address: str) -> None:
    assert is_inner(ip_address(address))


@pytest.mark.parametrize("address", OUTER)
def test_an_address_of_the_public_internet_is_not_inner(address: str) -> None:
    assert not is_inner(ip_address(address))


# When the configuration is read


def configured(folder: Path, url: str, keys: str = "") -> Configuration:
    """Load a configuration whose destination is there."""
    (folder / "destinations.toml").write_text(
        f'[destinations.main]\nurl = "{url}"\nuser = "shop"\n{keys}\n'
        'password = { env = "ORDERFLOW_MAIN_PASSWORD" }\n'
    )
    (folder / "outbox.toml").write_text("")
    return load(folder / "outbox.toml")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.0.0.1:8443",
        "169.254.169.254",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fd00:ec2::254]",
        "localhost",
        "LOCALHOST.:443",
        "orderflow.localhost",
    ],
)
def test_an_inner_address_in_the_configuration_is_refused_until_it_is_allowed(
    tmp_path: Path, host: str
) -> None:
    url = f"https://{host}/web"
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, url)
    (said,) = caught.value.problems
    assert f"destinations.main.url is '{url}'" in said
    assert "private_addresses = true" in said
    assert configured(tmp_path, url, "private_addresses = true").destinations["main"].url == url


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("2130706433", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0x7F000001", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("2852039166", "169.254.169.254"),
    ],
)
def test_an_address_written_as_a_number_is_read_as_a_resolver_does(
    tmp_path: Path, host: str, address: str
) -> None:
    with pytest.raises(ConfigError, match=f"which is {address}, is an inner address: .*private_addresses"):
        configured(tmp_path, f"https://{host}/web")
    with pytest.raises(ConfigError, match=f"write the address as {address}"):
        configured(tmp_path, f"https://{host}/web", "private_addresses = true")
    with pytest.raises(ConfigError, match=r"write the address as 8\.8\.8\.8"):
        configured(tmp_path, "https://134744072/web")


@pytest.mark.parametrize("host", ["orderflow.example.com", "8.8.8.8", "[2606:4700::1111]", "10.example.com"])
def test_a_name_and_a_public_address_need_no_leave(tmp_path: Path, host: str) -> None:
    configured(tmp_path, f"https://{host}/web")


# When it is connected


class Names(AbstractResolver):
    """A name server that says another thing each time it is asked, and the last one from then on."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)

    async def resolve(self, host: str, port: int = 0, *_: object, **__: object) -> list[ResolveResult]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=each,
                port=port,
                family=socket.AF_INET6 if ":" in each else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for each in answer
        ]

    async def close(self) -> None:
        """Nothing is open."""


class Inside:
    """A service of this machine, which no destination shall reach."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[Inside]:
        made = cls()
        server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
        made.port = server.sockets[0].getsockname()[1]
        try:
            yield made
        finally:
            server.close()


async def sent(transport: Transport, inside: Inside, host: str, allowed: bool = False) -> Reply | Failure:
    url = f"http://{host}:{inside.port}/web"
    return await transport.send(Request("GET", url, {}, {}, None, private_addresses=allowed), 0.5)


REFUSED, CONNECT_FAILED = "address_refused", "connect_failed"


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("127.0.0.1", REFUSED),
        ("0.0.0.0", REFUSED),
        ("localhost", REFUSED),
        ("LOCALHOST", REFUSED),
        ("0x7f.1", REFUSED),
        ("0x7f000001", REFUSED),
        ("[::1]", REFUSED),
        ("[::ffff:127.0.0.1]", REFUSED),
        ("[0:0:0:0:0:ffff:7f00:1]", REFUSED),
        ("[64:ff9b::127.0.0.1]", REFUSED),
        ("[2002:7f00:1::]", REFUSED),
        ("[fe80::1%25lo]", REFUSED),
        ("2130706433", CONNECT_FAILED),
        ("0177.0.0.1", CONNECT_FAILED),
        ("127.1", CONNECT_FAILED),
        ("127.0.0.1.", CONNECT_FAILED),
    ],
)
def test_no_spelling_of_an_inner_address_is_connected_to(host: str, reason: str) -> None:
    async def run() -> tuple[Reply | Failure, int]:
        async with Inside.running() as inside, Transport() as transport:
            return await sent(transport, inside, host), inside.connections

    answer, connections = asyncio.run(run())
    assert isinstance(answer, Failure)
    assert (answer.reason, answer.bytes_may_have_left, connections) == (reason, False, 0)


@pytest.mark.parametrize("inner", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254"])
def test_a_name_that_leads_inside_is_refused_and_told_with_what_would_allow_it(inner: str) -> None:
    async def run() -> Reply | Failure:
        async with Inside.running() as inside, Transport(resolver=Names([inner])) as transport:
            return await sent(transport, inside, NAME)

    answer = asyncio.run(run())
    assert isinstance(answer, Failure)
    assert (answer.reason, answer.bytes_may_have_left) == ("address_refused", False)
    for word in (NAME, inner, "private_addresses = true"):
        assert word in answer.text


def test_a_name_that_leads_inside_a_moment_later_gains_nothing_by_it() -> None:
    names = Names([PUBLIC], ["127.0.0.1"])

    async def run() -> tuple[Reply | Failure, int]:
        async with Inside.running() as inside:
            for _ in range(2):  # each resolves anew
                async with Transport(resolver=names) as transport:
                    answer = await sent(transport, inside, NAME)
            return answer, inside.connections

    answer, connections = asyncio.run(run())
    assert isinstance(answer, Failure)
    assert (answer.reason, connections) == ("address_refused", 0)


@pytest.mark.parametrize("answer", [[PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC]])
def test_an_inner_address_beside_a_public_one_is_not_connected_to(answer: Sequence[str]) -> None:
    async def run() -> int:
        async with Inside.running() as inside, Transport(resolver=Names(answer)) as transport:
            await sent(transport, inside, NAME)
            return inside.connections

    assert asyncio.run(run()) == 0


def test_a_connection_kept_alive_serves_nobody_who_may_not_go_there() -> None:
    async def run() -> tuple[list[Reply | Failure], int]:
        async with Inside.running() as inside, Transport() as transport:
            answers = [await sent(transport, inside, "127.0.0.1", each) for each in (True, False, True)]
            return answers, inside.connections

    (first, refused, last), connections = asyncio.run(run())
    assert isinstance(first, Reply)
    assert isinstance(last, Reply)
    assert isinstance(refused, Failure)
    assert (refused.reason, connections) == ("address_refused", 1)


# What becomes of a message


def held(database: Database) -> bool:
    with database.connect() as connection:
        return connection.execute(select(gate.c.state)).scalar_one_or_none() == "held"


@on_sqlite
def test_a_destination_that_leads_inside_is_held_and_spends_no_try(place: Place) -> None:
    with rig(place, window=1) as made:
        for n in range(3):
            made.order(f"SO-{n}")
        file = made.folder / "destinations.toml"
        file.write_text(
            file.read_text()
            .replace("127.0.0.1", NAME)
            .replace("private_addresses = true", "allow_plain_http = true")
        )
        transport = Transport(resolver=Names(["127.0.0.1"]))
        thread = EngineThread(
            lambda: Engine(Store(made.engine), load(made.file), transport, wake_nobody, announce_nothing)
        )
        thread.start()
        try:
            eventually(lambda: held(made.engine))
            eventually(lambda: made.states() == {"pending"})
        finally:
            assert thread.stop(20)
        assert [(row.tries, row.in_doubt) for row in made.rows()] == [(0, False)] * 3
        assert made.simulator.ledger.requests == []
        with made.engine.connect() as connection:
            cause, text = connection.execute(select(incident.c.cause, incident.c.text)).one()
        assert cause == "destination-held"
        assert "private_addresses = true" in text
