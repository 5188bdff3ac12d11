"""`python -m worker search`: a table, JSON, CSV and commands of curl, for what one line means."""

from __future__ import annotations

import asyncio
import csv
import io
import shutil
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import unquote

import pytest
from sqlalchemy import Engine

from orderflow_outbox import PREDEFINED
from tests.databases import on_sqlite
from tests.documents import order
from tests.shell import Shell
from tests.steps import DELIVERED, REFUSED, finish, put
from tests.test_requests import SECRET, claim, destination
from worker.commands import FAILED, USAGE_ERROR, output
from worker.deliveries import Reply, Request
from worker.indexer import index_some
from worker.requests import RequestBuilder
from worker.search.finding import NO_TEXTS
from worker.search.reproducing import as_curl
from worker.store.transactions import Store
from worker.transport import Transport


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], engine: Engine) -> Shell:
    return Shell(capsys)


@pytest.fixture
def dead(engine: Engine, store: Store) -> int:
    """Two messages of which one is dead; return its number."""
    number = put(engine, key="order:SO-7", payload=order("SO-7"))
    finish(store, REFUSED, reply=Reply(200, (), b"<oops>=no such \x1b[2Jarticle</oops>"))
    put(engine, key="order:SO-8", payload=order("SO-8"))
    while index_some(store):
        pass
    return number


@on_sqlite
def test_people_get_a_table_with_the_match_marked(shell: Shell, dead: int) -> None:
    ran = shell.any("search", '-state:pending "such"')
    assert ran.status == 0
    heading, line = ran.out.splitlines()
    assert heading.split() == [
        *("message", "enqueued", "operation", "destination", "key", "state", "verdict", "reason", "status"),
        "text",
    ]
    assert line.split()[0] == str(dead)
    assert "order:SO-7" in line
    assert "reply 1: <oops>=no »such«  [2Jarticle</oops>" in line
    assert "\x1b" not in ran.out
    assert "1 message found in " in ran.err


@on_sqlite
def test_what_is_left_out_is_told_on_standard_error(shell: Shell, dead: int, engine: Engine) -> None:
    first = shell.any("search", "sku:SKU-1", "--limit", 1)
    assert f"there may be more: --before {dead + 1}" in first.err
    second = shell.any("search", "sku:SKU-1", "--before", dead + 1, "--json")
    assert [each["id"] for each in second.json["messages"]] == [dead]
    put(engine)
    nothing = shell.any("search", "order:nowhere")
    assert nothing.out == ""
    assert "no messages found" in nothing.err
    assert "not to be found yet: 1 messages by their terms, 0 texts" in nothing.err


@on_sqlite
def test_where_texts_are_not_indexed_a_search_by_text_says_so(
    shell: Shell, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ('"no such"', "reply:such", "nowhere", '-"no such"', "SO-7")

    def told() -> list[bool]:
        return [NO_TEXTS in " ".join(shell.any("search", each).err.split()) for each in lines]

    assert not any(told())
    monkeypatch.setenv("OUTBOX_SEARCH__TEXTS", "false")
    assert told() == [True, True, True, True, False], "the last is found by its number"


@on_sqlite
def test_machines_get_one_document(shell: Shell, dead: int) -> None:
    found = shell.any("search", "SO-7 in:dead", "--json").json
    (only,) = found["messages"]
    assert {name: only[name] for name in ("id", "key", "state", "verdict", "reason", "status", "letter")} == {
        "id": dead,
        "key": "order:SO-7",
        "state": "dead",
        "verdict": "refused",
        "reason": "items_failed",
        "status": 200,
        "letter": "open",
    }
    assert (found["before"], found["out_of_time"], only["excerpt"]) == (None, False, None)
    excerpt = shell.any("search", "reply:such", "--json").json["messages"][0]["excerpt"]
    assert (excerpt["attempt"], excerpt["match"]) == (1, "such")


@on_sqlite
def test_spreadsheets_get_cells_that_are_no_formulas(shell: Shell, dead: int, engine: Engine) -> None:
    put(engine, key="=HYPERLINK(1)")
    put(engine, key="@SUM(1)")
    heading, *lines = csv.reader(io.StringIO(shell.any("search", "", "--csv").out))
    cells = [dict(zip(heading, line, strict=True)) for line in lines]
    assert [each["key"] for each in cells] == ["'@SUM(1)", "'=HYPERLINK(1)", "order:SO-8", "order:SO-7"]
    assert (cells[-1]["id"], cells[-1]["state"], cells[-1]["letter"]) == (str(dead), "dead", "open")


@on_sqlite
def test_a_line_that_is_not_understood_is_told_in_one_line(shell: Shell) -> None:
    ran = shell.any("search", "stat:dead")
    assert (ran.status, ran.out) == (FAILED, "")
    assert "there is no stat: to search by" in ran.err
    assert ran.err.count("\n") == 1
    assert shell.any("search", "x", "--csv", "--json").status == USAGE_ERROR


# Commands of curl


class Recorder(BaseHTTPRequestHandler):
    """Notes each request: line, headers and body."""

    seen: ClassVar[list[tuple[str, list[tuple[str, str]], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((self.requestline, self.headers.items(), body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[str]:
    """The address of a server that notes what it receives."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/web"
    server.shutdown()
    server.server_close()


async def _sent(request: Request) -> None:
    async with Transport() as transport:
        assert isinstance(await transport.send(request, 10), Reply)


def received() -> tuple[str, list[tuple[str, str]], bytes]:
    line, headers, body = Recorder.seen.pop()
    return unquote(line), sorted((name.lower(), value) for name, value in headers), body


AWKWARD = '<imports><import externalReference="it\'s $HOME `id` \\n END">\n\tä</import></imports>'


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: its commands are not tried")
@pytest.mark.parametrize("authentication", ["basic", "custom", "both"])
@pytest.mark.parametrize(
    "given",
    [
        {"payload": AWKWARD.encode()},
        {"payload": b"<a>\r\n\x1b\xff\n</a>\n\n", "headers": {"X-Own": "it's; $(id)", "X-Empty": ""}},
        {"payload": None, "operation": "order-cancel", "query": {"externalReference": "a'b &c"}},
    ],
)
def test_a_command_of_curl_makes_the_request_that_the_transport_makes(
    receiver: str, monkeypatch: pytest.MonkeyPatch, authentication: str, given: dict[str, Any]
) -> None:
    monkeypatch.setenv("ORDERFLOW_MAIN_PASSWORD", SECRET)
    to = destination(
        url=receiver, allow_plain_http=True, private_addresses=True, authentication=authentication
    )
    message = claim(**given)
    operation = PREDEFINED[message.operation]
    asyncio.run(_sent(RequestBuilder(to).build(message, operation)))
    ours = received()
    command = as_curl(message, operation, to)
    assert SECRET not in command
    assert "$ORDERFLOW_MAIN_PASSWORD" in command
    subprocess.run(["bash", "-c", command], check=True, capture_output=True, timeout=20)
    assert received() == ours


def test_the_placeholder_is_named_after_the_destination_where_the_password_is_in_a_file() -> None:
    to = destination(password={"file": "/run/secrets/x"})
    assert '"$ORDERFLOW_MAIN_PASSWORD"' in as_curl(claim(), PREDEFINED["order-import"], to)


@on_sqlite
def test_what_was_erased_has_no_command(shell: Shell, engine: Engine, store: Store) -> None:
    put(engine, key="order:SO-7", payload=order("SO-7"))
    finish(store, DELIVERED)
    shell.good("erase", "--key", "order:SO-7", "--why", "asked for it")
    ran = shell.any("search", "SO-7", "--curl")
    assert ran.out == ""
    assert "it was erased: its document is gone" in ran.err


@on_sqlite
def test_a_command_shows_what_is_known_of_a_person_only_where_that_is_asked_for(
    shell: Shell, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOX_PERSONAL_DATA__FIELDS", '["deliveryPostCode"]')
    ran = shell.any("search", "SO-7", "--curl")
    assert (ran.status, ran.out) == (USAGE_ERROR, "")
    assert "give --unmasked too" in ran.err
    assert "AB1 2CD" in shell.any("search", "SO-7", "--curl", "--unmasked").out


@on_sqlite
def test_a_long_key_leaves_the_other_columns_their_room(shell: Shell, dead: int, engine: Engine) -> None:
    put(engine, key="k" * 255)
    lines = shell.any("search", "operation:order-import").out.splitlines()
    assert len({line.index(word) for line, word in zip(lines, ("state", "pending"), strict=False)}) == 1
    assert max(map(len, lines)) < output.WIDTH_OF_A_FILE


@on_sqlite
def test_each_message_found_has_its_command(shell: Shell, dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERFLOW_MAIN_PASSWORD", SECRET)
    said = shell.any("search", "SO-7", "--curl").out
    assert said.startswith(f"# message {dead}: order-import to main\n")
    assert order("SO-7") in said
    assert SECRET not in said
