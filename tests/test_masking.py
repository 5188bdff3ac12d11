"""Credentials that a receiver repeats are stored nowhere and told to nobody; nor is a document's content."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Engine, select

from orderflow_outbox.tables import attempt, audit, metadata
from tests.databases import on_postgresql_first, on_sqlite_first
from tests.rig import Place, Rig, engine_of, eventually, rig
from tests.shell import Shell
from worker.deliveries import Reply
from worker.masking import MASKED, Masking
from worker.schemas import without_values

PASSWORD = "hunter2 & <secret>"
PAIR = base64.b64encode(f"shop:{PASSWORD}".encode()).decode()
ALONE = base64.b64encode(PASSWORD.encode()).decode()
ESCAPED = "hunter2 &amp; &lt;secret&gt;"
FORMS = [PASSWORD, PAIR, ALONE, ESCAPED]


class _Echo(BaseHTTPRequestHandler):
    """Answers every request with an ERROR page that repeats its credentials, as a debugging proxy does."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        login = self.headers["Authorization"]
        page = f"<html><body><h2>ERROR</h2><p>bad login {login} pw {ESCAPED}</p></body></html>"
        self.send_response(200)
        self.send_header("X-Echo", login)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page.encode())

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def echo() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/web"
    server.shutdown()
    server.server_close()


@pytest.fixture
def made(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A rig whose destination repeats the credentials it is sent."""
    with echo() as url, rig(place, retry_after=[]) as made:
        file = made.folder / "destinations.toml"
        file.write_text(file.read_text().replace(made.simulator.url, url))
        monkeypatch.setenv("OUTBOX_CONFIG", str(made.file))
        monkeypatch.setenv("ORDERFLOW_MAIN_PASSWORD", PASSWORD)
        monkeypatch.delenv("OUTBOX_DATABASE_URL")
        yield made


def everything_stored(engine: Engine) -> str:
    with engine.connect() as connection:
        return "\n".join(
            repr(tuple(bytes(each) if isinstance(each, memoryview) else each for each in row))
            for table in metadata.sorted_tables
            for row in connection.execute(select(table))
        )


@on_postgresql_first
def test_credentials_that_a_reply_repeats_are_in_no_table_log_or_alert(
    made: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    stored = made.order("SO-1")
    with engine_of(made):
        eventually(lambda: made.states() == {"dead"})
        eventually(lambda: "ALERT" in caplog.text)
    (attempt,) = made.attempts(stored.id)
    assert (attempt.verdict, attempt.reason, attempt.rule) == ("retry", "error_page", "error-page")
    assert attempt.error == f"bad login Basic {MASKED} pw {MASKED}"
    assert MASKED.encode() in attempt.reply_body
    assert attempt.reply_complete is False, "it is not what came, and shall not be judged again"
    told = everything_stored(made.engine) + caplog.text
    assert [form for form in FORMS if form in told] == []


@on_sqlite_first
def test_credentials_that_a_query_is_answered_are_neither_printed_nor_kept(
    made: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(capsys)
    for options in ((), ("--json",)):
        ran = shell.any("query", "inventory", "--organisation", "acme", *options)
        assert ran.status == 1
        assert MASKED in ran.err
        assert [form for form in FORMS if form in ran.out + ran.err] == []
    with made.engine.connect() as connection:
        details = json.dumps(connection.scalars(select(audit.c.detail)).all())
    assert MASKED in details
    assert [form for form in FORMS if form in details] == []


def test_a_reply_without_credentials_is_left_as_it_is() -> None:
    masking = Masking([PASSWORD, PAIR, ALONE])
    assert not masking.finds(Reply(200, (("Server", "nginx"),), b"<ok/>"))
    assert masking.finds(Reply(200, (("X", f"a {PAIR}"),), b""))
    assert masking.finds(Reply(200, (), f"<p>{ESCAPED}</p>".encode()))


@on_sqlite_first
def test_a_password_that_is_a_word_of_the_reply_changes_no_verdict(
    made: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERFLOW_MAIN_PASSWORD", "html")
    stored = made.order("SO-1")
    with engine_of(made):
        eventually(lambda: made.states() == {"dead"})
    (attempt,) = made.attempts(stored.id)
    assert (attempt.reason, attempt.rule) == ("error_page", "error-page")
    assert attempt.error == "the reply repeats credentials, and is not told"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "Element 'import', attribute 'email': [facet 'pattern'] The value 'Jane' is not accepted by the "
            "pattern '[a-z]+@x'.",
            "Element 'import', attribute 'email': [facet 'pattern'] The value is not accepted by the pattern "
            "'[a-z]+@x'.",
        ),
        (
            "Element 'n': 'it's Jane' is not a valid value of the atomic type 'xs:decimal'.",
            "Element 'n': The value is not a valid value of the atomic type 'xs:decimal'.",
        ),
        (
            "Element 'n': [facet 'enumeration'] The value ''a' is not J' is not an element of the set {'a'}.",
            "Element 'n': [facet 'enumeration'] The value is not an element of the set {'a'}.",
        ),
        (
            "Element 'n': [facet 'maxLength'] The value has a length of '9'; this exceeds the allowed "
            "maximum length of '5'.",
            None,
        ),
        ("Element 'x': This element is not expected. Expected is ( y ).", None),
        ("Element 'x', attribute 'z': The attribute 'z' is not allowed.", None),
        (
            "Element 'x': Duplicate key-sequence ['Jane'] in unique identity-constraint 'u'.",
            "Element 'x': Duplicate key-sequence ['…'.",
        ),
    ],
)
def test_what_a_schema_says_of_a_document_quotes_no_value_of_it(said: str, told: str | None) -> None:
    assert without_values(said) == (said if told is None else told)


@on_sqlite_first
def test_a_reply_that_cannot_be_masked_is_not_kept_and_holds_up_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    finds, tries = Masking.finds, iter([False, True])

    def fails_once(masking: Masking, reply: Reply) -> bool:
        if next(tries, True):
            return finds(masking, reply)
        raise RecursionError(PASSWORD)

    monkeypatch.setattr(Masking, "finds", fails_once)
    with rig(place, retry_after=["50ms"]) as made:
        made.orders(1)
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        with made.engine.connect() as connection:
            first = connection.execute(select(attempt).order_by(attempt.c.n)).first()
    assert first is not None
    assert (first.reason, first.in_doubt, first.reply_body) == ("not_judged", True, None)
    assert PASSWORD not in str(first)
