"""The console's search: what it finds, who may ask what, and that it is the command line's own."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from config import Role
from tests.consoles import USERS, Person, RunningConsole, console, text_of
from tests.databases import on_sqlite
from tests.documents import order
from tests.rig import Place, Rig, free_port, rig
from tests.shell import Shell
from tests.steps import DELIVERED, Clock, finish, put, why
from worker.deliveries import Reply
from worker.indexer import index_some
from worker.search.finding import NO_TEXTS
from worker.store.transactions import Store
from worker.verdicts import Refused
from worker.web.pages import search as search_pages

PERSONAL = '[personal_data]\nfields = ["deliveryPostCode"]'


@pytest.fixture
def made(place: Place) -> Iterator[Rig]:
    with rig(place, web=f"port = {free_port()}\nusers = [{USERS}]\n{PERSONAL}") as made:
        yield made


@pytest.fixture
def running(made: Rig) -> Iterator[RunningConsole]:
    with console(made) as running:
        yield running


@pytest.fixture
def otto(running: RunningConsole) -> Iterator[Person]:
    with running.person(Role.OPERATOR) as otto:
        yield otto


@pytest.fixture
def dead(made: Rig) -> int:
    """Two messages of which the first is dead, indexed; return its number."""
    store = Store(made.engine, Clock())
    number = put(made.engine, key="order:SO-1", payload=order("SO-1", sku="INSIDE-1"))
    reply = Reply(200, (), b"<oops>no such <b>article</b> INSIDE-2</oops>")
    finish(store, Refused(why("no_such_article", "INSIDE-3")), reply=reply)
    put(made.engine, key="order:SO-2", payload=order("SO-2"))
    finish(store, DELIVERED)
    while index_some(store):
        pass
    return number


def asked(person: Person, line: str, path: str = "/search", **others: str) -> httpx.Response:
    return person.client.get(path, params={"q": line, **others})


def found(reply: httpx.Response) -> list[int]:
    """Return the numbers of the messages that a page lists."""
    return [
        int(each) for each in re.findall(r'<th scope="row" class="n"><a href="/messages/(\d+)"', reply.text)
    ]


def line_of(reply: httpx.Response) -> str:
    """Return the line that a page is asked for by."""
    assert reply.status_code == 303
    (line,) = parse_qs(urlsplit(reply.headers["location"]).query)["q"]
    return line


def test_a_line_finds_messages_with_the_match_marked(dead: int, otto: Person) -> None:
    page = asked(otto, "state:dead order:SO-1")
    assert found(page) == [dead]
    assert "dead order-import main order:SO-1 refused no_such_article 200" in text_of(page)
    assert "<mark>" not in page.text
    assert found(asked(otto, "")) == [dead + 1, dead], "the latest first"
    page = asked(otto, '"SUCH <B>art"')
    assert found(page) == [dead]
    assert "&lt;oops&gt;no <mark>such &lt;b&gt;art</mark>icle" in page.text
    assert "reply 1:" in text_of(page)
    assert "No message is so." in text_of(asked(otto, "order:nowhere"))
    assert "Not to be found yet" not in page.text


@on_sqlite
def test_a_line_that_is_not_understood_is_told_beside_the_box(otto: Person) -> None:
    page = asked(otto, 'stat:dead"<script>')
    assert page.status_code == 400
    assert "there is no stat: to search by" in text_of(page)
    assert 'value="stat:dead&#34;&lt;script&gt;"' in page.text
    assert page.text.count("<script") == 1, "our own"
    page = otto.client.get("/search", params={"by": "fields", "q": "sku:A", "status": "teapot"})
    assert page.status_code == 400
    assert "write a status such as 503" in text_of(page)
    assert 'value="teapot"' in page.text
    assert 'value="sku:A"' in page.text


@on_sqlite
def test_fields_write_the_line(dead: int, otto: Person) -> None:
    fields = {
        "by": "fields",
        "q": "order:SO-1 state:pending",
        "state": "dead",
        "text": "no such",
        "after": "7d",
    }
    line = line_of(otto.client.get("/search", params=fields))
    assert line == 'order:SO-1 "no such" state:dead after:7d'
    page = asked(otto, line)
    assert found(page) == [dead]
    assert "<option selected>dead</option>" in page.text
    assert '<option value="7d" selected>' in page.text


@on_sqlite
def test_a_line_with_a_character_that_shows_nothing_is_the_same_when_it_is_sent_again(otto: Person) -> None:
    joined = "a\u200db"
    page = asked(otto, f"key:{joined} reason:{joined} operation:{joined}")
    assert re.findall('name="q" type="search" value="(key[^"]*)"', page.text) == [
        f"key:{joined} reason:{joined} operation:{joined}"
    ]
    for sent in (rf'name="q" value="key:{joined} ', f'name="reason" value="{joined}"'):
        assert sent in page.text, sent
    assert f'<option selected value="{joined}">a⟨U+200D⟩b</option>' in page.text


def test_pages_lead_on_to_the_last_message(made: Rig, otto: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_pages, "ON_A_PAGE", 2)
    numbers = [put(made.engine, payload=order("SO-1")) for _ in range(5)]
    page, seen = asked(otto, "SO-1"), []
    while True:
        seen += found(page)
        older = re.search(r'href="([^"]*)">Older ones', page.text)
        if older is None:
            break
        page = otto.get(html.unescape(older[1]))
    assert seen == numbers[::-1]
    for junk in ("0", "-1", "x", "9" * 30):
        assert asked(otto, "", before=junk).status_code == 200


@on_sqlite
def test_it_is_told_what_cannot_be_found_yet_and_where_time_ran_out(
    made: Rig, otto: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = put(made.engine)
    told = text_of(asked(otto, ""))
    assert "Not to be found yet: 1 message by what it is about, 0 texts; the first of them came" in told, told
    monkeypatch.setattr(search_pages, "SECONDS", 0)
    page = asked(otto, "state:delivered")
    assert f"It took too long, and nothing below message {number} was searched" in text_of(page)
    assert f"before={number}" in page.text
    csv = asked(otto, "state:delivered", "/search/csv")
    assert csv.status_code == 409
    assert "too long" in text_of(csv)


@on_sqlite
def test_where_texts_are_not_indexed_a_search_by_text_says_so(
    made: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOX_SEARCH__TEXTS", "false")
    with console(made) as running, running.person(Role.OPERATOR) as otto:
        assert NO_TEXTS[1:] in text_of(asked(otto, '"no such"'))
        assert NO_TEXTS[1:] not in text_of(asked(otto, "state:dead"))


@on_sqlite
def test_a_reader_finds_nothing_out_by_pieces_of_text(
    dead: int, running: RunningConsole, otto: Person
) -> None:
    with running.person(Role.READER) as rita:
        for line in (
            '"INSIDE-1"',
            "request:INSIDE-1",
            "reply:INSIDE-2",
            '-"INSIDE-1"',
            'state:dead text:"no such"',
        ):
            page = asked(rita, line)
            assert page.status_code == 400, line
            assert "operators alone may search by" in text_of(page), line
            assert found(page) == [], line
        by_field = line_of(rita.client.get("/search", params={"by": "fields", "text": "INSIDE-1"}))
        assert asked(rita, by_field).status_code == 400
        for known, unknown in (("INSIDE", "OUTSIDE"), ("-INSIDE", "-OUTSIDE"), ("SO-1_S", "SO-3_S")):
            assert found(asked(rita, known)) == found(asked(rita, unknown)), "no word is a piece of text"
        assert found(asked(otto, "INSIDE")) == [dead], "an operator's is"
        page = asked(rita, "SO-1")
        assert found(page) == [dead]
        assert "INSIDE" not in page.text
        assert "/search/csv" not in page.text
        for path in ("/search/csv?q=SO-1", f"/messages/{dead}/unmasked/curl"):
            assert rita.get(path).status_code == 403


@on_sqlite
def test_files_are_those_of_the_command_line(
    made: Rig,
    dead: int,
    otto: Person,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OUTBOX_CONFIG", str(made.file))
    shell = Shell(capsys)
    for line in ("", "article", "state:dead"):
        csv = asked(otto, line, "/search/csv")
        assert csv.headers["content-type"].startswith("text/csv")
        assert csv.headers["content-disposition"] == 'attachment; filename="messages.csv"'
        assert csv.text.splitlines() == shell.any("search", line, "--csv").out.splitlines()
    assert "AB1" not in shell.any("search", "deliveryPostCode", "--csv").out
    assert "AB1 2CD" in shell.any("search", "deliveryPostCode", "--csv", "--unmasked").out
    curl = otto.get(f"/messages/{dead}/unmasked/curl")
    assert curl.text.strip() == shell.any("search", f"id:{dead}", "--curl", "--unmasked").out.strip()
    assert '"$ORDERFLOW_MAIN_PASSWORD"' in curl.text
    assert order("SO-1", sku="INSIDE-1") in curl.text
    assert asked(otto, "stat:dead", "/search/csv").status_code == 409
    assert otto.get("/messages/99/unmasked/curl").status_code == 404


@on_sqlite
def test_what_is_known_of_a_person_is_masked(made: Rig, dead: int, otto: Person) -> None:
    page = asked(otto, "placed")
    assert found(page) == [dead + 1, dead]
    for line in ("placed", "AB1", '"AB1 2CD"', "24.00"):
        page = asked(otto, line)
        assert found(page) == [dead + 1, dead], line
        assert "AB1" not in page.text.partition("<table>")[2], line
        assert "AB1" not in asked(otto, line, "/search/csv").text, line
    assert "AB1" not in otto.get(f"/messages/{dead}").text
    assert "•••" in otto.get(f"/messages/{dead}").text


@on_sqlite
def test_an_address_that_was_shared_is_reached_by_signing_in(dead: int, running: RunningConsole) -> None:
    with running.stranger() as anna:
        shared = str(httpx.QueryParams({"q": '"no such" -state:pending after:2026-11-01T09:30'}))
        onward = anna.get(f"/search?{shared}")
        (next_page,) = parse_qs(urlsplit(onward.headers["location"]).query)["next"]
        reply = anna.sign_in("anna", next=next_page)
        assert reply.headers["location"] == f"/search?{shared}"
        assert found(anna.get(reply.headers["location"])) == [dead]


def test_the_box_in_the_header_leads_to_the_one_message_or_to_the_search(made: Rig, otto: Person) -> None:
    first = put(made.engine, key="order:SO-1", payload=order("SO-1"), idempotency_key="idem-1")
    second = put(made.engine, key="order:SO-2", payload=order("SO-2"))
    third = put(made.engine, key="order:SO-2", payload=order("SO-2"), idempotency_key="idem-3")

    def led(words: str) -> str:
        return str(asked(otto, words, "/find").headers["location"])

    assert led(str(first)) == led(f"#{first}") == f"/messages/{first}"
    assert led("order:SO-1") == led(" order:SO-1 ") == led("idem-1") == f"/messages/{first}"
    for words, line in (
        ("order:SO-2", "key:order:SO-2"),
        ("SO-2", "SO-2"),
        ("state:dead \x00", "state:dead"),
    ):
        assert line_of(asked(otto, words, "/find")) == line
    assert found(otto.get(led("order:SO-2"))) == found(otto.get(led("SO-2"))) == [third, second]
    for nothing in ("", "order:SO-9", "9" * 30, "\x00", "%", "x" * 500):
        page = otto.client.get(led(nothing))
        assert page.status_code in (200, 400), nothing
