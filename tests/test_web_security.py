"""What the console refuses, and what each of its replies says to browsers."""

from __future__ import annotations

import logging
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme

import config
from config import Role
from tests.consoles import NAMES, PASSWORD, USERS, RunningConsole, console, text_of
from tests.rig import Place, Rig, free_port, rig
from worker.web import security, serving
from worker.web.app import THREADS, routes
from worker.web.roles import MOST_BYTES, Guarded, Open

STRANGERS_MAY = {("/health", "GET"), ("/sign-in", "GET"), ("/sign-in", "POST"), ("/static/{name}", "GET")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("console")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORDERFLOW_MAIN_PASSWORD", "demo")
        patch.delenv("OUTBOX_DATABASE_URL", raising=False)
        patch.delenv("OUTBOX_STATE_DIR", raising=False)
        web = f'port = {free_port()}\nusers = [{USERS}]\nhosts = ["outbox.example.com"]'
        with rig(Place(folder, f"sqlite:///{folder}/outbox.db"), web=web) as made:
            yield made


@pytest.fixture(scope="module")
def running(made: Rig) -> Iterator[RunningConsole]:
    with console(made) as running:
        yield running


def paths() -> list[tuple[str, str, Role | None]]:
    """Return every route: an address that fits it, its method and the role it needs."""
    found = []
    for route in routes():
        assert isinstance(route, Guarded | Open), "a route without a role"
        (method,) = route.methods - {"HEAD"}  # type: ignore[operator]
        found.append((route.path, method, route.needs))
    return found


def place_of(running: RunningConsole) -> tuple[str, int]:
    """Return where a console listens."""
    return "127.0.0.1", int(running.base.rpartition(":")[2])


PLACES = {"name": "console.css", "path": "nowhere", "destination": "main"}


def address(path: str) -> str:
    """Return an address that fits a route."""
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda found: PLACES.get(found[1], "1"), path)


def test_strangers_may_ask_for_four_things_and_no_more(running: RunningConsole) -> None:
    assert {(path, method) for path, method, needs in paths() if needs is None} == STRANGERS_MAY
    with running.stranger() as stranger:
        for path, method, needs in paths():
            reply = stranger.get(address(path)) if method == "GET" else stranger.post(address(path))
            if needs is not None:
                assert (reply.status_code, reply.text) in ((303, ""), (401, "Sign in first.\n")), path
        assert stranger.get("/health").text == "OK\n"


def test_a_number_of_thousands_of_digits_is_turned_away_as_any_address_is(running: RunningConsole) -> None:
    digits = "9" * 5000
    with running.stranger() as stranger, running.person(Role.READER) as rita:
        for path in (f"/messages/{digits}", f"/messages/1/replies/{digits}", f"/replays/{digits}"):
            reply = stranger.get(path)
            assert reply.status_code == 303
            assert "content-security-policy" in reply.headers
            assert rita.get(path).status_code == 404


@pytest.mark.parametrize("role", list(Role))
def test_every_route_asks_for_its_role(running: RunningConsole, role: Role) -> None:
    with running.person(role) as person:
        for path, method, needs in paths():
            if needs is None or path == "/sign-out":
                continue
            reply = person.get(address(path)) if method == "GET" else person.post(address(path))
            refused = reply.status_code == 403 and "This needs the role" in reply.text
            assert refused == (not role.covers(needs)), (path, method, reply.status_code)


@pytest.mark.parametrize("path", ["/", "/health", "/sign-in", "/nowhere", "/static/console.js"])
def test_every_reply_tells_browsers_to_be_careful(running: RunningConsole, path: str) -> None:
    with running.person(Role.READER) as rita, running.stranger() as stranger:
        for reply in (rita.get(path), stranger.get(path)):
            policy = reply.headers["content-security-policy"].split("; ")
            assert {"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} <= set(policy)
            assert "unsafe" not in reply.headers["content-security-policy"]
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert reply.headers["referrer-policy"] == "same-origin"
            assert reply.headers["cross-origin-opener-policy"] == "same-origin"
            assert reply.headers["cross-origin-resource-policy"] == "same-origin"
            assert "strict-transport-security" not in reply.headers, "it is plain http on this machine"
            assert "server" not in reply.headers
            assert ("no-store" in reply.headers["cache-control"]) == (not path.startswith("/static"))


def test_no_page_holds_a_script_or_a_style_of_its_own(running: RunningConsole) -> None:
    folder = Path(config.__file__).parents[1] / "worker" / "web" / "templates"
    for file in folder.iterdir():
        text = file.read_text()
        assert "style=" not in text, file
        assert "<style" not in text, file
        assert "|safe" not in text.replace(" ", ""), file
        assert not re.search(r"\son[a-z]+\s*=", text), file
        assert all("src=" in tag for tag in text.split("<script")[1:]), file


@pytest.mark.parametrize(
    "host",
    ["evil.test", "evil.test:8880", "127.0.0.1.evil.test", "localhost@evil.test", "", "[::2]", "0.0.0.0"],
)
def test_a_host_that_is_not_ours_is_refused(running: RunningConsole, host: str) -> None:
    with running.stranger() as stranger:
        reply = stranger.get("/health", Host=host)
        assert reply.status_code == 421
        assert "x-content-type-options" in reply.headers


@pytest.mark.parametrize(
    "host", ["localhost:1", "LOCALHOST", "127.0.0.1", "[::1]:80", "outbox.example.com:444"]
)
def test_a_host_that_is_ours_is_answered(running: RunningConsole, host: str) -> None:
    with running.stranger() as stranger:
        assert stranger.get("/health", Host=host).status_code == 200


def test_two_hosts_at_once_are_refused(running: RunningConsole) -> None:
    with socket.create_connection(place_of(running), 5) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\n\r\n")
        assert b" 400 " in client.recv(1000) or b" 421 " in client.recv(1000)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "", "Origin": "https://evil.test"},
        {"Sec-Fetch-Site": "", "Origin": "null"},
        {"Sec-Fetch-Site": "", "Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.test"},
    ],
)
def test_a_form_from_elsewhere_is_refused(running: RunningConsole, headers: dict[str, str]) -> None:
    with running.person(Role.ADMINISTRATOR) as anna:
        reply = anna.post("/sign-out", **headers)
        assert (reply.status_code, reply.text) == (403, "This form is not of this console.\n")
        assert anna.get("/").status_code == 200
        without = anna.client.post("/sign-out", data={"token": anna.token})
        assert without.status_code == 403, "a browser says where a form stood"


def test_a_form_without_the_sessions_own_token_is_refused(running: RunningConsole) -> None:
    with running.person(Role.ADMINISTRATOR) as anna, running.person(Role.READER) as rita:
        assert anna.token != rita.token
        for token in ("", "0" * 64, rita.token):
            reply = anna.post("/sign-out", {"token": token})
            assert reply.status_code == 403
            assert "of another session" in reply.text
        assert anna.get("/").status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": ""}, {"Origin": ""}, {"Origin": "null"}], ids=str)
def test_a_form_of_ours_is_taken_by_whatever_a_browser_says_of_it(
    running: RunningConsole, headers: dict[str, str]
) -> None:
    with running.person(Role.READER) as rita:
        assert rita.post("/sign-out", **headers).status_code == 303


def test_large_bodies_and_what_is_no_form_are_refused(running: RunningConsole) -> None:
    with running.person(Role.READER) as rita:
        assert rita.post("/sign-out", {"why": "x" * MOST_BYTES}).status_code == 413
        many = {f"field-{n}": "" for n in range(200)}
        assert rita.post("/sign-out", many).status_code == 413
        headers = {"Origin": rita.base}
        assert rita.client.post("/sign-out", json={"token": rita.token}, headers=headers).status_code == 413
        endless = (b"x" * 1000 for _ in range(1000))
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        assert rita.client.post("/sign-out", content=endless, headers={**headers, **kind}).status_code == 413


def test_a_body_that_stops_halfway_is_waited_for_no_longer_than_a_while(
    running: RunningConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "BODY_SECONDS", 0.1)
    head = (
        "POST /sign-in HTTP/1.1",
        "Host: localhost",
        "Sec-Fetch-Site: same-origin",
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Length: 100",
    )
    with socket.create_connection(place_of(running), 5) as client:
        client.sendall("\r\n".join((*head, "", "name=an")).encode())
        assert b" 413 " in client.recv(1000)


@pytest.mark.parametrize(("asks_before", "sent"), [(False, b""), (False, b"GET /"), (True, b"GET /")])
def test_a_connection_on_which_no_request_comes_to_the_end_of_its_head_ends(
    running: RunningConsole, monkeypatch: pytest.MonkeyPatch, asks_before: bool, sent: bytes
) -> None:
    monkeypatch.setattr(serving, "QUIET_SECONDS", 0.1)
    with socket.create_connection(place_of(running), 5) as client:
        if asks_before:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            read = b""
            while not read.endswith(b"OK\n"):
                read += client.recv(1000)
        client.sendall(sent)
        assert client.recv(1000) == b""


def test_a_connection_ends_that_asks_and_does_not_read(
    running: RunningConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "QUIET_SECONDS", 0.1)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(10)
        client.connect(place_of(running))
        asks = b"GET /sign-in HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with pytest.raises(ConnectionError):
            client.sendall(asks * 200_000)


def test_it_says_that_it_is_well_while_every_thread_is_busy(
    running: RunningConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_busy, is_over = threading.Barrier(THREADS + 1), threading.Event()

    def dawdle(*_: object) -> None:
        all_busy.wait(10)
        is_over.wait(20)
        raise ValueError

    with (
        running.person(Role.READER) as rita,
        running.stranger() as stranger,
        ThreadPoolExecutor(THREADS) as browsers,
    ):
        monkeypatch.setattr("worker.web.pages.overview.look_at", dawdle)
        for _ in range(THREADS):
            browsers.submit(rita.get, "/")
        try:
            all_busy.wait(10)
            assert stranger.client.get("/health", timeout=5).text == "OK\n"
        finally:
            is_over.set()


def test_a_page_that_fails_tells_nothing_of_why(
    running: RunningConsole, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    payload = "<order/>"

    def fail(*_: object) -> None:
        raise ValueError(payload)

    with running.person(Role.ADMINISTRATOR) as anna, caplog.at_level(logging.ERROR):
        monkeypatch.setattr("worker.web.pages.overview.look_at", fail)
        reply = anna.get("/")
        assert reply.status_code == 500
        assert payload not in reply.text + caplog.text
        assert "ValueError" in caplog.text
        assert "overview.py" in caplog.text


def test_without_its_database_it_says_so_and_not_where_that_is(made: Rig, running: RunningConsole) -> None:
    with running.person(Role.ADMINISTRATOR) as anna:
        file = made.folder / "outbox.db"
        with made.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE outbox_session RENAME TO gone")
        try:
            reply = anna.get("/")
            assert reply.status_code == 503
            assert "The database does not answer" in text_of(reply)
            assert str(file) not in reply.text
            assert "gone" not in reply.text
            assert running.stranger().get("/health").status_code == 200
        finally:
            with made.engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE gone RENAME TO outbox_session")


def test_over_https_the_cookie_belongs_to_the_host_alone(tmp_path: Path) -> None:
    authority = trustme.CA()
    pair = authority.issue_cert("127.0.0.1")
    pair.private_key_pem.write_to_path(tmp_path / "key.pem")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    verify = ssl.create_default_context()
    authority.configure_trust(verify)
    files = f'certificate = "{tmp_path}/certificate.pem"\nkey = "{tmp_path}/key.pem"'
    web = f"port = {free_port()}\nusers = [{USERS}]\n{files}"
    with (
        rig(Place(tmp_path, f"sqlite:///{tmp_path}/outbox.db"), web=web) as made,
        console(made, verify) as running,
        running.stranger() as anna,
    ):
        reply = anna.sign_in(NAMES[Role.ADMINISTRATOR])
        words = reply.headers["set-cookie"].split("; ")
        assert words[0].startswith("__Host-outbox=")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(words)
        assert not any(word.startswith("Domain") for word in words)
        assert "max-age=" in reply.headers["strict-transport-security"]
        assert anna.get("/").status_code == 200


def test_behind_a_proxy_the_cookie_is_the_hosts_too(tmp_path: Path) -> None:
    web = f'port = {free_port()}\nusers = [{USERS}]\nbehind_proxy = true\nhosts = ["outbox.example.com"]'
    with (
        rig(Place(tmp_path, f"sqlite:///{tmp_path}/outbox.db"), web=web) as made,
        console(made) as running,
        running.stranger() as anna,
    ):
        headers = {"Host": "outbox.example.com", "Origin": "https://outbox.example.com"}
        reply = anna.post("/sign-in", {"name": "anna", "password": "wrong"}, **headers)
        assert reply.status_code == 403
        assert "strict-transport-security" in reply.headers
        reply = anna.post("/sign-in", {"name": "anna", "password": PASSWORD}, **headers)
        assert reply.headers["set-cookie"].startswith("__Host-outbox=")
        assert "Secure" in reply.headers["set-cookie"]
