"""Guarded replay from the console's pages: looked at first, begun, watched, stopped; discarded; edited."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from config import Role
from orderflow_outbox import PREDEFINED
from orderflow_outbox.tables import audit, body, dead_letter, edit, message, replay_run, replay_run_member
from tests.consoles import USERS, Person, RunningConsole, console, text_of
from tests.databases import on_postgresql_first, on_sqlite, on_sqlite_first
from tests.documents import order
from tests.rig import Place, Rig, free_port, rig
from tests.steps import REFUSED, Clock, bury, claim_all, finish, outcome, put, recorder, rows, set_row, why
from worker import discarding
from worker.deliveries import Reply
from worker.replays.differing import difference
from worker.replays.driving import drive
from worker.replays.replaying import replay
from worker.store.transactions import Store
from worker.verdicts import Refused
from worker.web.pages import many
from worker.web.texts import difference_lines

HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(2)>\u202etxt.exe\x07'
NAME = "Liebermann"
PERSONAL = '\n[personal_data]\nfields = ["lastName"]'
_HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')
_TEXTAREA = re.compile(r"<textarea[^>]*>\n(.*?)</textarea>", re.DOTALL)


@pytest.fixture
def made(place: Place) -> Iterator[Rig]:
    with rig(place, web=f"port = {free_port()}\nusers = [{USERS}]{PERSONAL}", window=8) as made:
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
def past(made: Rig) -> Store:
    """The store, a moment ahead: what is enqueued is due."""
    return Store(made.engine, Clock())


@pytest.fixture
def now(made: Rig) -> Store:
    """The store by the database's own clock: what has died is dead by then for the console, too."""
    return Store(made.engine)


def hidden(page: httpx.Response) -> dict[str, str]:
    """Return what a form of a page holds that is not seen, but for its token."""
    return {name: html.unescape(value) for name, value in _HIDDEN.findall(page.text) if name != "token"}


def typed(page: httpx.Response) -> str:
    """Return the text that a page has to be edited, as a browser would send it."""
    found = _TEXTAREA.search(page.text)
    assert found is not None
    return re.sub("\r\n|\r|\n", "\r\n", html.unescape(found[1]))


def dead(store: Store, made: Rig, number: int, reason: str = "no_such_article") -> list[int]:
    """Let messages die together; return their numbers."""
    ids = [put(made.engine, key=f"order:{reason}-{n}") for n in range(number)]
    claims = claim_all(store, number).claims
    assert recorder(store).record([outcome(each, Refused(why(reason, "there is none"))) for each in claims])
    return ids


def test_a_group_is_looked_over_first_and_replayed_with_a_canary(
    made: Rig, past: Store, otto: Person
) -> None:
    ids = dead(past, made, 12)
    replay(past, ids[0], "ann", "before")
    drop = dead(past, made, 2, "http_500")
    address = "/dead/replay?" + urlencode({"destination": "main", "reason": "no_such_article"})
    assert html.escape(address) in otto.get("/dead?destination=main&reason=no_such_article").text
    page = otto.get(address)
    assert "Dry run: 11 of 11 would be replayed" in text_of(page)
    assert '11</td><th scope="row">ready</th>' in page.text
    assert f'href="/messages/{ids[1]}"' in page.text
    assert "No engine is alive" in page.text
    assert rows(made.engine, replay_run) == []
    fields = {**hidden(page), "canary": "3", "rate": "60", "stop": "25", "why": "article added"}
    done = otto.post("/dead/replay", fields)
    assert done.headers["location"] == "/replays/1?done=begun"
    (run,) = rows(made.engine, replay_run)
    assert (run["canary"], run["rate_requests"], run["rate_seconds"], run["stop_share"]) == (
        3,
        60,
        60.0,
        0.25,
    )
    assert (run["begun_by"], run["why"], run["chosen"]) == ("otto", "article added", 11)
    drive(past, PREDEFINED)
    told = text_of(otto.get("/replays/1"))
    assert "waits until its canary has ended" in told
    assert "0 of 11 have ended" in told
    assert "Sent 3, of which 3 under way" in told
    assert {each["message_id"] for each in rows(made.engine, dead_letter, resolution="open")} >= set(drop)


@on_sqlite_first
def test_a_dry_run_of_those_ticked_tells_what_is_in_the_way_of_each(
    made: Rig, past: Store, otto: Person
) -> None:
    ids = dead(past, made, 3)
    again = replay(past, ids[0], "ann", "before").replay
    page = otto.get(f"/dead/replay?ids={ids[0]}&ids={ids[1]}&ids=999")
    told = text_of(page)
    assert "Dry run: 1 of 3 would be replayed" in told
    assert f"replayed before {ids[0]} : as message {again}, which is pending" in told
    assert "not there 999" in told
    assert hidden(page)["ids"] == f"{ids[0]} {ids[1]} 999"
    otto.post("/dead/replay", {**hidden(page), "canary": "0", "rate": "", "stop": "", "why": "those"})
    (run,) = rows(made.engine, replay_run)
    assert (run["total"], run["chosen"], run["canary"], run["rate_requests"], run["stop_share"]) == (
        3,
        1,
        0,
        None,
        None,
    )
    assert "as many as go" in text_of(otto.get("/replays/1"))
    assert "replayed before: as message" in otto.get("/replays/1").text


@on_sqlite
def test_what_is_not_said_or_no_number_begins_nothing(made: Rig, past: Store, otto: Person) -> None:
    dead(past, made, 1)
    every = {"every": "yes", "canary": "1", "rate": "", "stop": "20", "why": "x"}
    for wrong in (
        {"every": ""},
        {"why": " "},
        {"canary": "-1"},
        {"rate": "0"},
        {"stop": "101"},
        {"stop": "x"},
        {"ids": "1 x"},
        {"ids": " ".join(map(str, range(1, 300)))},
        {"since": "yesterday"},
        {"incident": "9" * 30},
        {"reason": "unknown"},
    ):
        assert otto.post("/dead/replay", {**every, **wrong}).status_code == 409, wrong
    for address in ("/dead/replay", "/dead/discard", "/dead?since=x", "/dead/replay?ids=-1"):
        assert otto.get(address).status_code == 409, address
    for until in ("", "x", "2026-01-01T00:00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"):
        fields = {"every": "yes", "why": "x", "number": "1", "until": until}
        assert otto.post("/dead/discard", fields).status_code == 409, until
    assert rows(made.engine, replay_run) == []
    assert otto.post("/dead/replay", every).status_code == 303


@on_sqlite_first
def test_a_run_is_stopped_continued_and_cancelled_with_a_reason_each(
    made: Rig, past: Store, otto: Person, running: RunningConsole
) -> None:
    dead(past, made, 4)
    otto.post("/dead/replay", {"every": "yes", "canary": "1", "rate": "", "stop": "20", "why": "BEGUN-FOR"})
    assert otto.post("/replays/1/stop", {"why": "STOPPED-FOR"}).headers["location"].endswith("run-stopped")
    page = otto.get("/replays/1").text
    assert "STOPPED-FOR" in page
    assert "/replays/1/continue" in page
    assert "/replays/1/stop" not in page
    assert otto.post("/replays/1/stop", {"why": "again"}).status_code == 409
    assert otto.post("/replays/1/continue", {"why": "on"}).status_code == 303
    assert otto.post("/replays/1/cancel", {"why": "enough"}).status_code == 303
    assert "cancelled" in text_of(otto.get("/replays"))
    assert [(each["verb"], each["by"]) for each in rows(made.engine, audit)] == [
        (verb, "otto") for verb in ("begin-run", "stop-run", "continue-run", "cancel-run")
    ]
    assert (
        otto.get("/replays/99").status_code == otto.post("/replays/99/stop", {"why": "x"}).status_code == 404
    )
    with running.person(Role.READER) as rita:
        for path in ("/replays", "/replays/1"):
            page = rita.get(path).text
            assert "-FOR" not in page, path
            assert "enough" not in page, path
            assert 'name="why"' not in page, path
        assert "cancelled" in text_of(rita.get("/replays/1"))


@on_postgresql_first
def test_those_that_failed_again_are_named_with_their_replays(made: Rig, past: Store, otto: Person) -> None:
    ids = dead(past, made, 2)
    otto.post("/dead/replay", {"every": "yes", "canary": "0", "rate": "", "stop": "", "why": "x"})
    drive(past, PREDEFINED)
    claims = claim_all(past).claims
    assert recorder(past).record([outcome(each, REFUSED) for each in claims])
    drive(past, PREDEFINED)
    page = otto.get("/replays/1")
    told = text_of(page)
    assert "2 of 2 have ended" in told
    assert f"Failed again {ids[0]} {claims[0].id} dead" in re.sub(
        "Failed again Failed again.*?Why", "Failed again", told
    )
    for number in (*ids, *(each.id for each in claims)):
        assert f'href="/messages/{number}"' in page.text


def test_a_group_is_discarded_once_its_number_was_seen_and_goes_on_where_time_was_over(
    made: Rig, now: Store, otto: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(now, made, 5)
    (other,) = dead(now, made, 1, "http_500")
    asked = otto.get("/dead/discard?reason=no_such_article")
    assert "Discard 5 dead letters?" in text_of(asked)
    monkeypatch.setattr(discarding, "BATCH", 2)
    monkeypatch.setattr(many, "DISCARDING_SECONDS", 0)
    page = otto.post("/dead/discard", {**hidden(asked), "why": "a test"})
    assert "2 of 5 are discarded" in text_of(page)
    monkeypatch.setattr(many, "DISCARDING_SECONDS", 60)
    page = otto.post("/dead/discard", hidden(page))
    assert "5 of 5 are discarded" in text_of(page)
    assert 'name="number"' not in page.text
    assert [each["message_id"] for each in rows(made.engine, dead_letter, resolution="open")] == [other]
    assert {(each["verb"], each["by"], each["why"]) for each in rows(made.engine, audit)} == {
        ("discard", "otto", "a test")
    }


@on_sqlite
def test_a_discard_goes_on_for_the_same_reason_to_the_character(
    made: Rig, now: Store, otto: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(now, made, 2)
    monkeypatch.setattr(discarding, "BATCH", 1)
    monkeypatch.setattr(many, "DISCARDING_SECONDS", 0)
    asked = otto.get("/dead/discard?every=yes")
    page = otto.post("/dead/discard", {**hidden(asked), "why": "a\u200db"})
    otto.post("/dead/discard", hidden(page))
    assert [each["why"] for each in rows(made.engine, audit)] == ["a\u200db", "a\u200db"]


@on_sqlite
def test_a_filter_with_a_character_that_shows_nothing_stays_what_it_is(
    made: Rig, past: Store, otto: Person
) -> None:
    bury(past, made.engine, "a\u200db")
    page = otto.get("/dead?" + urlencode({"reason": "a\u200db"}))
    assert re.findall('name="reason" value="([^"]*)"', page.text) == ["a\u200db"]
    assert hidden(otto.get("/dead/discard?" + urlencode({"reason": "a\u200db"})))["reason"] == "a\u200db"


@on_sqlite_first
def test_the_ticked_are_discarded_and_no_others(made: Rig, now: Store, otto: Person) -> None:
    ids = dead(now, made, 3)
    asked = otto.get(f"/dead/discard?ids={ids[0]}&ids={ids[2]}")
    assert "Discard 2 dead letters?" in text_of(asked)
    assert "messages" in text_of(asked)
    otto.post("/dead/discard", {**hidden(asked), "why": "a test"})
    assert [each["message_id"] for each in rows(made.engine, dead_letter, resolution="open")] == [ids[1]]


@on_sqlite_first
def test_a_document_is_edited_previewed_and_sent_with_all_its_other_bytes(
    made: Rig, past: Store, otto: Person
) -> None:
    before = b'\xef\xbb\xbf<?xml version="1.0"?>\r\n' + order("SO-1", sku="SKU-\xad9").encode() + b"\r\n\r\n"
    number = bury(past, made.engine, payload=before, key="order:SO-1")
    address = f"/messages/{number}/edit"
    assert address in otto.get(f"/messages/{number}").text
    text = typed(otto.get(address))
    unchanged = otto.post(address, {"document": text})
    assert unchanged.status_code == 409
    assert "is unchanged" in text_of(unchanged)
    preview = otto.post(address, {"document": text.replace("SKU-\xad9", "SKU-2")})
    assert preview.status_code == 200
    assert "<ins>+orderLine.1.product.externalReference=SKU-2</ins>" in preview.text
    assert "<del>-orderLine.1.product.externalReference=SKU-⟨U+00AD⟩9</del>" in preview.text
    assert [each["id"] for each in rows(made.engine, message)] == [number]
    sent = otto.post(f"{address}/send", {**hidden(preview), "why": "article renamed"})
    assert sent.headers["location"] == f"/messages/{number + 1}?done=edited"
    (found,) = rows(made.engine, body, message_id=number + 1)
    assert found["payload"] == before.replace("SKU-\xad9".encode(), b"SKU-2")
    assert "SKU-2" in rows(made.engine, edit)[0]["difference"]
    for each in (number, number + 1):
        assert "<ins>+orderLine.1.product.externalReference=SKU-2</ins>" in otto.get(f"/messages/{each}").text
    written = rows(made.engine, audit)[-1]
    assert (written["verb"], written["by"], written["why"]) == ("edit", "otto", "article renamed")
    assert otto.get(address).status_code == 409


@on_sqlite_first
def test_what_is_wrong_with_an_edited_document_is_told_and_the_text_is_not_lost(
    made: Rig, past: Store, otto: Person
) -> None:
    number = bury(past, made.engine, payload=order("SO-1"), key="order:SO-1")
    address = f"/messages/{number}/edit"
    for wrong, told in (
        (order("SO-1") + "\n\n</oops>", "line"),
        (order("SO-1", sku="\x01"), "line"),
        ("", "document"),
    ):
        for to in (address, f"{address}/send"):
            page = otto.post(to, {"document": wrong, "why": "x"})
            assert page.status_code == 409
            assert told in text_of(page), wrong
            assert typed(page) == wrong.replace("\n", "\r\n")
    page = otto.post(f"{address}/send", {"document": order("SO-1", sku="SKU-2"), "why": ""})
    assert "say why" in page.text
    assert [each["id"] for each in rows(made.engine, message)] == [number]
    assert otto.get("/messages/99/edit").status_code == 409


@on_sqlite
def test_a_large_document_fits_its_form_and_a_larger_one_is_not_edited_in_a_page(
    made: Rig, past: Store, otto: Person
) -> None:
    lines = "\n" * 200_000
    number = bury(past, made.engine, payload=order("SO-1") + lines)
    text = typed(otto.get(f"/messages/{number}/edit"))
    preview = otto.post(f"/messages/{number}/edit", {"document": text.replace("SKU-1", "SKU-2")})
    assert preview.status_code == 200
    larger = bury(past, made.engine, payload=order("SO-2") + lines * 2)
    assert "too many for a page" in text_of(otto.get(f"/messages/{larger}/edit"))


@on_sqlite
def test_a_reader_sees_numbers_of_dead_letters_and_no_texts(
    made: Rig, past: Store, running: RunningConsole
) -> None:
    number = put(made.engine)
    finish(past, Refused(why("items_failed", "INSIDE-1")))
    with running.person(Role.READER) as rita:
        page = rita.get("/dead")
        assert "items_failed order-import main 1 0" in text_of(page)
        assert "INSIDE" not in page.text
        assert "/dead/replay?" not in page.text
        assert 'name="ids"' not in page.text
        assert rita.get("/dead/replay?every=yes").status_code == 403
        assert rita.get(f"/messages/{number}/edit").status_code == 403


@on_sqlite
def test_what_is_known_of_a_person_is_masked_until_an_operator_asks(
    made: Rig, past: Store, otto: Person, running: RunningConsole
) -> None:
    payload = order("SO-1").replace("currency=GBP", f"orderAddress.lastName={NAME}")
    elder = put(made.engine)
    set_row(made.engine, elder, due_at=Clock().now + timedelta(days=1))
    number = put(made.engine, key=f"order:{NAME}", payload=payload)
    said = f"<r><lastName>{NAME}</lastName></r>".encode()
    finish(past, Refused(why("items_failed", f"no {NAME} here")), reply=Reply(200, (), said))
    set_row(made.engine, elder, key=f"order:{NAME}", blocks=True)
    for path in (
        f"/messages/{number}",
        f"/messages/{number}/document",
        f"/messages/{number}/replies/1",
        "/dead",
        "/dead/replay?every=yes",
        "/incidents",
        "/",
    ):
        assert NAME not in otto.get(path).text, path
    assert "•••" in otto.get("/dead").text
    assert "an earlier one of order:••• blocks" in text_of(otto.get("/dead/replay?every=yes"))
    shown = f"/messages/{number}/unmasked"
    assert f'href="{shown}"' in otto.get(f"/messages/{number}").text
    assert NAME in otto.get(shown).text
    assert otto.get(f"{shown}/document").content == payload.encode()
    assert otto.get(f"{shown}/replies/1").content == said
    with running.person(Role.READER) as rita:
        for path in (shown, f"{shown}/document", f"{shown}/replies/1"):
            assert rita.get(path).status_code == 403
        assert "order:•••" in rita.get("/dead").text
        assert NAME not in rita.get("/dead").text
        assert shown not in rita.get(f"/messages/{number}").text
    text = typed(otto.get(f"/messages/{number}/edit"))
    preview = otto.post(f"/messages/{number}/edit", {"document": text.replace(NAME, "Lieberman")})
    otto.post(f"/messages/{number}/edit/send", {**hidden(preview), "why": f"{NAME} it was"})
    with running.person(Role.ADMINISTRATOR) as anna:
        assert NAME not in anna.get("/audit").text
        assert "••• it was" in anna.get("/audit").text
    for each in (number, number + 1):
        assert "What was edited" in otto.get(f"/messages/{each}").text
        assert "Lieberman" not in otto.get(f"/messages/{each}").text
        assert NAME in otto.get(f"/messages/{each}/unmasked").text


@on_sqlite
def test_reasons_of_runs_and_gates_tell_no_personal_value_by_its_field(
    made: Rig, past: Store, otto: Person
) -> None:
    payload = order("SO-1").replace("currency=GBP", f"orderAddress.lastName={NAME}")
    number = bury(past, made.engine, payload=payload)
    said = f"as lastName={NAME} asked"
    fields = {"ids": f"{number} 999", "canary": "0", "rate": "", "stop": "", "why": said}
    otto.post("/dead/replay", fields)
    with made.engine.begin() as connection:
        connection.execute(
            replay_run_member.update()
            .where(replay_run_member.c.message_id == number)
            .values(outcome="left_out", said=f"unfit: no {NAME} here")
        )
    otto.post("/replays/1/stop", {"why": said})
    otto.post("/destinations/main/hold", {"why": said})
    for path in ("/replays", "/replays/1", "/destinations", "/"):
        page = otto.get(path).text
        assert NAME not in page, path
        assert "lastName•••" in page, path
    assert "unfit: no ••• here" in otto.get("/replays/1").text


@on_sqlite
def test_what_is_hostile_is_only_ever_text_on_these_pages_too(made: Rig, past: Store, otto: Person) -> None:
    payload = order("SO-1", sku=HOSTILE[:-1])
    number = put(made.engine, key='order:"><script>alert(3)</script>', payload=payload)
    finish(past, Refused(why("items_failed", HOSTILE)), reply=Reply(200, (("x", HOSTILE),), HOSTILE.encode()))
    other = bury(past, made.engine)
    fields: dict[str, Any] = {"ids": f"{other}", "canary": "1", "rate": "", "stop": "20", "why": HOSTILE}
    assert otto.post("/dead/replay", fields).status_code == 303
    otto.post("/replays/1/stop", {"why": HOSTILE})
    reason = urlencode({"reason": HOSTILE})
    edited = otto.post(f"/messages/{number}/edit", {"document": payload.replace("quantity=2", "quantity=3")})
    assert edited.status_code == 200
    pages = [f"/dead?{reason}", f"/dead/replay?{reason}", f"/dead/discard?{reason}", "/dead", "/replays"]
    pages += ["/dead/replay?every=yes", "/replays/1", f"/messages/{number}/edit"]
    for page in (edited, *map(otto.get, pages)):
        assert page.status_code == 200, page.url
        assert page.text.count("<script") == 1, (page.url, "our own")
        assert "<img" not in page.text, page.url
        read = re.sub(r"<textarea.*?</textarea>|<input[^>]*>", "", page.text, flags=re.DOTALL)
        assert "\u202e" not in read, page.url
        assert "\x07" not in read, page.url


@on_sqlite
def test_letters_are_found_by_when_they_died_and_by_their_incident(made: Rig, otto: Person) -> None:
    clock = Clock()
    store = Store(made.engine, clock)
    bury(store, made.engine, "no_such_article", key="order:OLD")
    clock.forward(timedelta(hours=2))
    bury(store, made.engine, "http_500", key="order:NEW")
    since = f"{clock.now - timedelta(hours=1):%Y-%m-%dT%H:%M}"
    for query in ({"since": since}, {"incident": "2"}):
        page = otto.client.get("/dead", params=query).text
        assert "order:NEW" in page
        assert "order:OLD" not in page


def test_a_line_of_a_document_that_looks_like_a_difference_is_shown() -> None:
    lines = list(difference_lines(difference(b"<a>\n-- before\n</a>", b"<a>\n++ after\n</a>")))
    assert lines == [
        ("place", "@@ -1,3 +1,3 @@"),
        ("same", " <a>"),
        ("removed", "--- before"),
        ("added", "+++ after"),
        ("same", " </a>"),
    ]
