"""A deployer's own operations: one file for shop and service, refused where it is wrong, obeyed where not."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

import config
from config import ConfigError
from orderflow_outbox import (
    PREDEFINED,
    Catalogue,
    InvalidMessage,
    InvalidOperation,
    NewMessage,
    Operation,
    Scope,
    WhenDead,
    enqueue,
    enqueue_many,
)
from orderflow_outbox.messages import check
from orderflow_outbox.operations import Answer, Method, Naming
from tests.rig import Place, engine_of, eventually, rig
from tests.shell import Shell
from worker.commands import FAILED

MANUAL = Path(config.__file__).parent / "operations.toml"
LEAST = '[operations.own]\npath = "a/b.xml"\nscope = "none"\n'


def written(folder: Path, content: str | bytes) -> Path:
    file = folder / "operations.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def refusal(folder: Path, content: str | bytes) -> InvalidOperation:
    with pytest.raises(InvalidOperation) as refused:
        Catalogue.load(written(folder, content))
    return refused.value


# The file


def test_the_manual_has_a_sentence_for_each_key_and_its_example_loads(tmp_path: Path) -> None:
    lines = MANUAL.read_text().splitlines()
    assert all(line.startswith("#") for line in lines)
    entry = re.compile(r"# (\[operations\..*\]|[a-z_]+ = .*)")
    entries = [place for place, line in enumerate(lines) if entry.fullmatch(line)]
    for place in entries:
        above = lines[place - 1].rstrip("#")
        assert above.endswith((".", ":")) or lines[place - 2].endswith(":"), lines[place]
    keys = [lines[place].split()[1] for place in entries[1:]]
    assert sorted(keys) == sorted(each.name for each in fields(Operation) if each.name != "name")
    example = "\n".join(lines[place].removeprefix("# ") for place in entries)
    with_imports = example.replace('body_root = "stockCount"', 'body_root = "imports"')
    assert Catalogue.load(written(tmp_path, with_imports))["stock-count"].key == "sku:{externalReference}"
    without_type = "\n".join(line for line in example.splitlines() if not line.startswith("import_type"))
    assert Catalogue.load(written(tmp_path, without_type))["stock-count"].body_root == "stockCount"
    assert Catalogue.load(written(tmp_path, example.replace("stockCount", "imports"))) is not None


def test_the_manual_itself_is_a_file_of_no_operations() -> None:
    assert dict(Catalogue.load(MANUAL)) == dict(PREDEFINED)


def test_every_key_of_the_file_reaches_the_operation(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        [operations.stock-count]
        path = "remotewarehouse/stock/count.xml"
        scope = "organisation"
        method = "PUT"
        body_root = "imports"
        import_type = "product"
        naming = "any"
        key = "sku:{externalReference}"
        query = { mode = "full" }
        required_query = ["warehouse"]
        answer = "any"
        supersedes = ["stock-count", "order-cancel"]
        when_dead = "pass"
        """,
    )
    assert Catalogue.load(file)["stock-count"] == Operation(
        "stock-count",
        "remotewarehouse/stock/count.xml",
        Scope.ORGANISATION,
        method=Method.PUT,
        body_root="imports",
        import_type="product",
        naming=Naming.ANY,
        key="sku:{externalReference}",
        query={"mode": "full"},
        required_query=("warehouse",),
        answer=Answer.ANY,
        supersedes=("stock-count", "order-cancel"),
        when_dead=WhenDead.PASS,
    )


WRONG: list[tuple[str | bytes, str, str]] = [
    ("[operations", "the file", "not TOML"),
    (b"\xff\xfe", "the file", "not UTF-8"),
    ("a = " + "[" * 5000, "the file", "not TOML"),
    ("a = " + "9" * 5000, "the file", "not TOML"),
    ("operations = 1", "operations", "1"),
    ("[[operations]]", "operations", "[{}]"),
    ("operations.own = 1", "operations.own", "1"),
    ("[[operations.own]]", "operations.own", "[{}]"),
    ("[operation.own]", "operation", "{'own': {}}"),
    ('"a\\nb" = 1', "'a\\nb'", "1"),
    ('[operations.own]\nscope = "none"', "operations.own.path", "missing"),
    ('[operations.own]\npath = "a"', "operations.own.scope", "missing"),
    ('[operations.Own]\npath = "a"\nscope = "none"', "name", "'Own'"),
    ('[operations."a\\nb"]\npath = "a"\nscope = "none"', "name", "'a\\nb'"),
    ('[operations."a\\nb"]\nx = 1', "operations.'a\\nb'.x", "1"),
    (f'[operations.{"a" * 65}]\npath = "a"\nscope = "none"', "name", f"'{'a' * 65}'"),
    ('[operations.order-import]\npath = "a"\nscope = "none"', "operations", "'order-import'"),
    (LEAST + "colour = 1", "operations.own.colour", "1"),
    (LEAST + 'name = "x"', "operations.own.name", "'x'"),
    *(
        (f'[operations.own]\nscope = "none"\npath = {path!r}', "operations.own.path", repr(path))
        for path in ("", "/a", "a/", "a//b", "a?b=c", "a#b", "a b", "../a", "a/%2e%2E/b", "a%2", "ä")
    ),
    ("[operations.own]\nscope = 'none'\npath = 1", "operations.own.path", "1"),
    *(
        (f"[operations.own]\npath = 'a'\nscope = {scope}", "operations.own.scope", shown)
        for scope, shown in (("'shop'", "'shop'"), ("1", "1"), ("['channel']", "['channel']"), ("''", "''"))
    ),
    *(
        (f"{LEAST}{key} = {value}", f"operations.own.{key}", value)
        for key in ("method", "naming", "answer", "when_dead")
        for value in ("'none'", "'post'", "1", "[]", "{}")
    ),
    *(
        (f"{LEAST}{key} = {value}", f"operations.own.{key}", value)
        for key in ("required_query", "supersedes")
        for value in ("'own'", "[1]", "1")
    ),
    (LEAST + 'required_query = [""]', "operations.own.required_query", "''"),
    (LEAST + 'required_query = ["password"]', "operations.own.required_query", "'password'"),
    (LEAST + 'supersedes = ["nobody"]', "operations.own.supersedes", "'nobody'"),
    (LEAST + "query = 'a=b'", "operations.own.query", "'a=b'"),
    (LEAST + "query = { a = 1 }", "operations.own.query", "{'a': 1}"),
    (LEAST + 'query = { channel = "web" }', "operations.own.query", "'channel'"),
    (LEAST + 'query = { "" = "web" }', "operations.own.query", "''"),
    (LEAST + 'query = { a = "b\\n" }', "operations.own.query", "'a'"),
    *(
        (f"{LEAST}key = {key!r}", "operations.own.key", repr(key))
        for key in ("", "sku", "{}", "{ }", "a{b}{}", "{a", "a}", "{a}{b", "{a}}", "{{a}}", "{a b}")
    ),
    (LEAST + "key = 1", "operations.own.key", "1"),
    (LEAST + 'body_root = "1a"', "operations.own.body_root", "'1a'"),
    (LEAST + 'body_root = ""', "operations.own.body_root", "''"),
    (LEAST + "body_root = false", "operations.own.body_root", "False"),
    (LEAST + 'body_root = "a"\nmethod = "GET"', "operations.own.body_root", "'a'"),
    (LEAST + 'body_root = "a"\nmethod = "DELETE"', "operations.own.body_root", "'a'"),
    (LEAST + 'import_type = "order"', "operations.own.import_type", "'order'"),
    (LEAST + 'body_root = "a"\nimport_type = "order"', "operations.own.import_type", "'order'"),
]


@pytest.mark.parametrize(("content", "field", "value"), WRONG, ids=lambda each: repr(each)[:60])
def test_whatever_is_wrong_is_refused_with_file_key_value_and_fix(
    tmp_path: Path, content: str | bytes, field: str, value: str
) -> None:
    error = refusal(tmp_path, content)
    assert error.field == field
    assert value in error.value
    assert error.fix
    assert str(error) == f"{tmp_path}/operations.toml: {field} is {error.value}: {error.fix}"
    assert str(error).isprintable(), "it is one line"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for file in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(InvalidOperation, match=re.escape(f"{file}: the file is '")):
            Catalogue.load(file)


@pytest.mark.parametrize(
    "path", ["a", "a.xml", "remote/a.xml", "a/b;v=1/c,d", "a%20b", "~a/@b:c", "a/...b", "x/$metadata('1')"]
)
def test_every_path_that_an_address_may_have_is_taken(tmp_path: Path, path: str) -> None:
    own = Catalogue.load(written(tmp_path, f'[operations.own]\nscope = "none"\npath = "{path}"'))
    assert own["own"].path == path


# The service


def service(folder: Path, operations: str | None, destination: str = "") -> Path:
    """Write a configuration of the service and return its settings file."""
    (folder / "destinations.toml").write_text(
        '[destinations.main]\nurl = "https://orderflow.example.com/web"\nuser = "shop"\n'
        f'password = {{ env = "ORDERFLOW_MAIN_PASSWORD" }}\n{destination}'
    )
    if operations is not None:
        written(folder, operations)
    file = folder / "outbox.toml"
    file.write_text('operations_file = "operations.toml"\n')
    return file


def test_the_service_reads_the_file_beside_its_settings(tmp_path: Path) -> None:
    own = "[destinations.main.operations.own.retry]\nretry_after = []\n"
    loaded = config.load(service(tmp_path, LEAST, own))
    assert set(loaded.catalogue) == {*PREDEFINED, "own"}
    assert loaded.destinations["main"].retry_policy("own").tries == 1
    assert loaded.destinations["main"].retry_policy("order-import").tries > 1


def test_settings_for_an_operation_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    other = "[destinations.main.operations.other.retry]\nretry_after = []\n"
    with pytest.raises(ConfigError, match=r"operations\.other.*is an operation nobody knows.*\bown\b"):
        config.load(service(tmp_path, LEAST, other))


@pytest.mark.parametrize(
    "operations", [None, "[[operations]]", LEAST + 'key = "{"', "[operations", '"a\\nb" = 1'], ids=repr
)
def test_config_check_tells_what_is_wrong_in_one_line(
    tmp_path: Path, operations: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = Shell(capsys).any("config", "check", str(service(tmp_path, operations)))
    assert ran.status == FAILED
    assert ran.err.count("\n") == 1
    assert str(tmp_path / "operations.toml") in ran.err


def test_the_command_line_enqueues_the_services_own_operations(
    tmp_path: Path, engine: Engine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOX_CONFIG", str(service(tmp_path, LEAST)))
    assert Shell(capsys).any("enqueue", "own").status == 0
    assert Shell(capsys).any("enqueue", "other").status == FAILED


# A message of an own operation, from the shop to the receiver


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as a receiver saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@contextmanager
def receiver() -> Iterator[tuple[str, list[Seen]]]:
    """Serve on loopback, answering every request with an empty 204."""
    seen: list[Seen] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen.append(Seen(self.command, self.path, headers, body))
            self.send_response(204)
            self.end_headers()

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/web", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


OWN = """
[operations.stock-count]
path = "stock/count%20v2;x=1"
scope = "none"
method = "PUT"
body_root = "Stock_Count"
naming = "any"
key = "sku:{article-number}"
query = { mode = "full" }
answer = "any"

[operations.forget]
path = "stock"
scope = "none"
method = "DELETE"
required_query = ["sku"]
answer = "any"
"""


def test_a_message_of_an_own_operation_is_requested_as_the_file_says(place: Place) -> None:
    with receiver() as (url, seen), rig(place) as made:
        file = written(made.folder, OWN)
        made.file.write_text(f'operations_file = "{file.name}"\n{made.file.read_text()}')
        destinations = made.folder / "destinations.toml"
        destinations.write_text(destinations.read_text().replace(made.simulator.url, url))
        catalogue = Catalogue.load(file)
        document = '<Stock_Count article-number="A 1">5</Stock_Count>'
        with made.engine.begin() as connection:
            first = enqueue(connection, "stock-count", document, catalogue=catalogue)
            forget = NewMessage("forget", query={"sku": "A 1"}, key=first.key)
            (second,) = enqueue_many(connection, [forget], catalogue=catalogue)
        assert first.key == "sku:A 1"
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        put, delete = seen
        assert (put.method, put.path) == ("PUT", "/web/stock/count%20v2;x=1?mode=full")
        assert put.body == document.encode()
        assert put.headers["content-type"] == "application/xml; charset=utf-8"
        assert put.headers["idempotency-key"] == first.idempotency_key
        assert (delete.method, delete.path, delete.body) == ("DELETE", "/web/stock?sku=A+1", b"")
        assert delete.headers["idempotency-key"] == second.idempotency_key
        assert not {"channel", "organisation"} & (put.headers.keys() | delete.headers.keys())
        assert [each.rule for each in made.attempts(first.id)] == ["any-answer"]
        assert not made.simulator.ledger.requests


# The rule of a key

KEYED = Catalogue(
    [
        Operation("by-query", "a", None, key="order:{externalReference}"),
        Operation("by-root", "a", None, body_root="stock", key="sku:{sku}@{site}"),
        Operation("by-imports", "a", None, body_root="imports", key="sku:{externalReference}"),
    ]
)
TWO = '<imports><import externalReference="{}"/><import externalReference="{}"/></imports>'


@pytest.mark.parametrize(
    ("operation", "given", "key"),
    [
        ("by-query", {"query": {"externalReference": "SO-1"}}, "order:SO-1"),
        ("by-query", {"query": {"externalReference": "{x}\\g<0>"}}, "order:{x}\\g<0>"),
        ("by-root", {"payload": '<stock sku="A" site="B"/>'}, "sku:A@B"),
        ("by-root", {"payload": '<stock sku="A"/>', "query": {"site": "C"}}, "sku:A@C"),
        ("by-imports", {"payload": TWO.format("A", "A")}, "sku:A"),
        ("by-imports", {"payload": TWO.format("A", "B"), "key": "mine"}, "mine"),
        ("by-query", {"key": "mine", "query": {"externalReference": "SO-1"}}, "mine"),
        ("by-query", {"query": {"externalReference": "x" * 249}}, "order:" + "x" * 249),
    ],
)
def test_a_key_is_made_by_the_rule_unless_one_is_given(operation: str, given: Any, key: str) -> None:
    assert check(NewMessage(operation, **given), KEYED).key == key


@pytest.mark.parametrize(
    ("operation", "given"),
    [
        ("by-query", {}),
        ("by-query", {"query": {"externalReference": ""}}),
        ("by-query", {"query": {"externalReference": " "}}),
        ("by-query", {"query": {"externalReference": "x" * 250}}),
        ("by-query", {"key": "", "query": {"externalReference": "A"}}),
        ("by-root", {"payload": '<stock sku="A"/>'}),
        ("by-root", {"payload": '<stock sku="A" site=""/>'}),
        ("by-root", {"payload": '<stock><line sku="A" site="B"/></stock>'}),
        ("by-imports", {"payload": TWO.format("A", "B")}),
        ("by-imports", {"payload": TWO.format("A", "")}),
        ("by-imports", {"payload": '<imports><import externalReference="A"/><import/></imports>'}),
    ],
)
def test_a_message_of_which_no_key_can_be_made_is_refused(operation: str, given: Any) -> None:
    with pytest.raises(InvalidMessage) as refused:
        check(NewMessage(operation, **given), KEYED)
    assert refused.value.field == "key"
