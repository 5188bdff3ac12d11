"""What the console's pages tell, and what can be done from them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from config import Role
from orderflow_outbox.tables import attempt, audit, gate, incident, message
from tests.consoles import USERS, Person, RunningConsole, console, text_of
from tests.databases import on_postgresql, on_postgresql_first, on_sqlite, on_sqlite_first
from tests.documents import order
from tests.rig import PROJECT, Place, Rig, free_port, rig
from tests.steps import DELIVERED, LATER, Clock, bury, finish, put, row, rows, why
from worker.by_hand import discard
from worker.deliveries import Reply
from worker.replays import driving
from worker.store.erasing import ERASED
from worker.store.throughput import throughput
from worker.store.transactions import Store
from worker.verdicts import Refused
from worker.web.app import STATEMENT_SECONDS
from worker.web.charts import SPANS, bar_chart, line_chart
from worker.web.pages import dead as dead_pages
from worker.web.pages import message as message_pages
from worker.web.pages.audit import VERBS

HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(2)>\u202etxt.exe\x07'
SEEN = "⟨U+202E⟩txt.exe␇"


@pytest.fixture
def made(place: Place) -> Iterator[Rig]:
    with rig(place, web=f"port = {free_port()}\nusers = [{USERS}]", window=8) as made:
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


def last_audit(made: Rig) -> Any:
    return rows(made.engine, audit)[-1]


@on_sqlite_first
def test_the_overview_tells_how_everything_stands(made: Rig, past: Store, otto: Person) -> None:
    bury(past, made.engine, "no_such_article", key="order:SO-1")
    put(made.engine)
    page = text_of(otto.get("/"))
    assert "Error · dead-letters main order-import no_such_article" in page
    assert "main open 0 / 8" in page
    assert page.count("The table below has the numbers") == 0
    assert 'aria-label="Attempts in the last 24 hours' in otto.get("/?span=day").text
    assert otto.get("/?span=<script>").status_code == 200


@on_postgresql_first
def test_a_message_tells_its_whole_life(made: Rig, past: Store, otto: Person) -> None:
    reply = Reply(
        200, (("content-type", "text/xml"), ("x-from", "OrderFlow")), b"<report><a b='1'>x</a></report>"
    )
    number = put(made.engine, key="order:SO-1", payload=order("SO-1"), idempotency_key="k")
    finish(past, Refused(why("no_such_article", "there is no SKU-1")), reply=reply)
    page = otto.get(f"/messages/{number}")
    told = text_of(page)
    assert "dead It is dead." in told
    assert "Dead letter · open · no_such_article there is no SKU-1" in told
    assert "no_such_article by the rule a-rule HTTP 200 200 ms" in told
    assert "POST http://127.0.0.1:1/web" in told
    assert "Authorization ********" in told
    assert "x-from OrderFlow" in told
    plain = html.unescape(page.text)
    assert '<report>\n  <a b="1">x</a>\n</report>' in plain, "laid out"
    assert "<report><a b='1'>x</a></report>" in plain, "as it is"
    assert otto.get(f"/messages/{number}/replies/1").content == reply.body
    document = otto.get(f"/messages/{number}/document")
    assert document.content == order("SO-1").encode()
    assert document.headers["content-disposition"].startswith("attachment")
    for missing in ("/messages/0", "/messages/999", f"/messages/{2**70}", f"/messages/{number}/replies/2"):
        assert otto.get(missing).status_code == 404, missing


@on_sqlite
def test_of_many_attempts_the_latest_are_shown_and_the_others_are_counted(
    made: Rig, otto: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_pages, "SHOWN_ATTEMPTS", 2)
    clock = Clock()
    number = put(made.engine)
    for shown, left_out in ((1, 0), (2, 0), (2, 1), (2, 2)):
        finish(Store(made.engine, clock), LATER)
        clock.forward(timedelta(hours=2))
        told = text_of(otto.get(f"/messages/{number}"))
        latest = shown + left_out
        assert re.findall(r"Attempt (\d+) ", told) == [str(latest - n) for n in range(shown)][::-1]
        assert f"Attempts {latest}" in told
        assert (f"has the {left_out} before them" in told) == (left_out > 0)


@on_sqlite
def test_a_message_that_is_watched_lays_its_document_out_once(
    made: Rig, past: Store, otto: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid_out: list[bytes] = []
    monkeypatch.setattr(message_pages, "pretty", laid_out.append)
    number = put(made.engine, payload=order("SO-1"))
    finish(past, LATER, reply=Reply(200, (), b"<later/>"))
    assert "What is sent" in otto.get(f"/messages/{number}").text
    assert laid_out == [order("SO-1").encode(), b"<later/>"]
    laid_out.clear()
    assert "Attempt 1" in otto.get(f"/messages/{number}", **{"X-Live": "yes"}).text
    assert laid_out == [b"<later/>"]


@on_sqlite_first
def test_a_reader_sees_nothing_of_what_is_inside(made: Rig, past: Store, running: RunningConsole) -> None:
    number = put(made.engine, key="order:SO-1", payload=order("SO-1", sku="INSIDE-1"))
    finish(
        past, Refused(why("no_such_article", "INSIDE-2")), reply=Reply(200, (("x", "INSIDE-3"),), b"INSIDE-4")
    )
    with running.person(Role.READER) as rita:
        for path in (
            "/",
            f"/messages/{number}",
            "/dead",
            "/destinations",
            "/incidents",
            "/search?q=order:SO-1",
        ):
            page = rita.client.get(path, follow_redirects=True)
            assert page.status_code == 200
            assert "INSIDE" not in page.text, path
            assert 'name="why"' not in page.text, path
        assert "no_such_article" in rita.get(f"/messages/{number}").text
        discard(past, number, "otto", "INSIDE-5")
        assert "INSIDE" not in rita.get(f"/messages/{number}").text
        for path in ("document", "replies/1"):
            assert rita.get(f"/messages/{number}/{path}").status_code == 403
    with running.person(Role.OPERATOR) as otto:
        seen = otto.get(f"/messages/{number}").text
        assert all(f"INSIDE-{n}" in seen for n in (1, 2, 3, 4, 5))


@on_sqlite_first
def test_a_dead_message_is_replayed_once_and_the_two_lead_to_each_other(
    made: Rig, past: Store, otto: Person
) -> None:
    number = bury(past, made.engine, key="order:SO-1")
    done = otto.post(f"/messages/{number}/replay", {"why": " the  article is\nthere "})
    replayed = done.headers["location"]
    assert re.fullmatch(rf"/messages/{number + 1}\?done=replayed", replayed)
    assert "This is the replay" in text_of(otto.get(replayed))
    assert f'href="/messages/{number}"' in otto.get(replayed).text
    assert f'href="/messages/{number + 1}"' in otto.get(f"/messages/{number}").text
    found = last_audit(made)
    assert (found["verb"], found["by"], found["why"]) == ("replay", "otto", "the article is there")
    again = otto.post(f"/messages/{number}/replay", {"why": "again"})
    assert again.headers["location"] == f"/messages/{number + 1}?done=replayed-before"
    assert "otto: the article is there" in text_of(otto.get(f"/messages/{number}"))


@on_sqlite_first
def test_a_dead_letter_is_discarded_and_a_waiting_message_cancelled(
    made: Rig, past: Store, otto: Person
) -> None:
    dead = bury(past, made.engine)
    waiting = put(made.engine)
    assert otto.post(f"/messages/{dead}/discard", {"why": "a test order"}).status_code == 303
    assert last_audit(made)["verb"] == "discard"
    assert otto.post(f"/messages/{waiting}/cancel", {"why": "not wanted"}).status_code == 303
    assert row(made.engine, waiting)["state"] == "cancelled"
    assert last_audit(made)["verb"] == "cancel"
    refused = otto.post(f"/messages/{dead}/discard", {"why": "again"})
    assert refused.status_code == 409
    assert "nothing is left to discard" in text_of(refused)


def test_every_verb_of_the_audit_can_be_chosen() -> None:
    texts = (file.read_text() for room in ("worker", "tasks") for file in (PROJECT / room).rglob("*.py"))
    noted = {
        verb
        for text in texts
        for verb in re.findall(r'(?:verb=|_note\(transaction, |run_id, )"([a-z-]+)"', text)
    }
    assert {"discard", "replay", "begin-run", "stop-run"} <= noted
    assert noted | {ERASED, *driving._TOLD.values()} <= set(VERBS)


@on_sqlite
def test_nothing_is_done_without_a_reason(made: Rig, past: Store, otto: Person) -> None:
    number = bury(past, made.engine)
    for reason in ("", "  \n ", "\u200b", "x" * 501):
        reply = otto.post(f"/messages/{number}/replay", {"why": reason})
        assert reply.status_code == 409
        assert "reason" in text_of(reply)
    assert otto.post("/destinations/main/hold", {"why": ""}).status_code == 409
    assert rows(made.engine, audit) == []


def test_dead_letters_are_counted_by_cause_and_listed_page_by_page(
    made: Rig, past: Store, otto: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_pages, "ON_A_PAGE", 2)
    for n in range(5):
        bury(past, made.engine, "no_such_article" if n else "no_such_channel", key=f"order:SO-{n}")
    page = otto.get("/dead")
    assert "no_such_article order-import main 4" in text_of(page)
    assert "no_such_channel order-import main 1" in text_of(page)
    seen = []
    path: str | None = "/dead?destination=&operation=order-import&reason=no_such_article"
    while path:
        page = otto.get(path)
        seen += re.findall(r"order:SO-\d", page.text)
        older = re.search(r'href="([^"]*before=[^"]*)"', page.text)
        path = html.unescape(older[1]) if older else None
    assert seen == [f"order:SO-{n}" for n in (4, 3, 2, 1)]
    far = "0001-01-01T00:00:00+23:59"
    for junk in (
        "x",
        "2026-01-01 1",
        f"{far} 1",
        "2026-01-01T00:00:00+00:00 -1",
        f"2026-01-01T00:00:00+00:00 {2**70}",
    ):
        assert otto.client.get("/dead", params={"before": junk}).status_code == 200


@on_sqlite_first
def test_a_destination_is_held_and_resumed(made: Rig, otto: Person) -> None:
    assert otto.post("/destinations/main/hold", {"why": "they move house"}).status_code == 303
    page = otto.get("/destinations?done=held")
    assert "main is held by otto since" in text_of(page)
    assert "they move house" in page.text
    assert "/destinations/main/resume" in page.text
    assert otto.post("/destinations/main/resume", {"why": "they are back"}).status_code == 303
    assert [each["verb"] for each in rows(made.engine, audit)] == ["hold", "resume"]
    assert otto.post("/destinations/nowhere/hold", {"why": "x"}).status_code == 404


@on_postgresql_first
def test_an_administrator_limits_a_destination_below_its_configuration(
    made: Rig, running: RunningConsole
) -> None:
    with running.person(Role.ADMINISTRATOR) as anna:
        too_high = anna.post("/destinations/main/limit", {"window": "9", "rate": "", "why": "x"})
        assert too_high.status_code == 409
        assert "is 8 by its configuration" in text_of(too_high)
        for junk in ("0", "-1", "1.5", "x", "9" * 30, "٣"):
            assert anna.post("/destinations/main/limit", {"window": junk, "why": "x"}).status_code == 409, (
                junk
            )
        fields = {"window": "2", "rate": "30", "why": "their new server is slow"}
        assert anna.post("/destinations/main/limit", fields).status_code == 303
        (found,) = rows(made.engine, gate)
        assert (found["limit_window"], found["limit_requests"], found["limit_seconds"]) == (2, 30, 60.0)
        page = text_of(anna.get("/destinations"))
        assert "at most 8; limited by hand to 2" in page
        assert "limited by hand to 30/min" in page
        assert last_audit(made)["detail"]["after"] == {"window": 2, "rate": "30/min"}
        assert anna.post("/destinations/main/limit", {"why": "it is quick again"}).status_code == 303
        (found,) = rows(made.engine, gate)
        assert (found["limit_window"], found["limit_requests"]) == (None, None)


@on_sqlite_first
def test_an_incident_is_acknowledged_and_those_that_are_over_are_listed(
    made: Rig, past: Store, otto: Person
) -> None:
    number = bury(past, made.engine)
    assert "dead-letters main order-import items_failed" in text_of(otto.get("/incidents"))
    assert otto.post("/incidents/1/acknowledge", {"why": "I look at it"}).status_code == 303
    assert "Acknowledged by otto" in text_of(otto.get("/incidents"))
    assert last_audit(made)["verb"] == "acknowledge"
    assert otto.post("/incidents/99/acknowledge", {"why": "x"}).status_code == 404
    otto.post(f"/messages/{number}/discard", {"why": "a test order"})
    (found,) = rows(made.engine, incident)
    assert found["resolved_at"] is not None
    page = text_of(otto.get("/incidents"))
    assert "None: nobody has to do anything." in page
    assert "1 error dead-letters main order-import items_failed 1" in page


def test_the_audit_tells_who_did_what_and_can_be_filtered(made: Rig, running: RunningConsole) -> None:
    with running.person(Role.OPERATOR) as otto, running.person(Role.ADMINISTRATOR) as anna:
        otto.post("/destinations/main/hold", {"why": "because-of-otto"})
        anna.post("/destinations/main/resume", {"why": "because-of-anna"})
        assert re.findall("because-of-(?:otto|anna)", anna.get("/audit").text) == [
            "because-of-anna",
            "because-of-otto",
        ]
        assert re.findall("because-of-\\w+", anna.get("/audit?by=otto").text) == ["because-of-otto"]
        assert re.findall("because-of-\\w+", anna.get("/audit?verb=resume").text) == ["because-of-anna"]
        assert re.findall("because-of-\\w+", anna.get("/audit?before=2").text) == ["because-of-otto"]
        assert (
            "Nothing of that kind" in anna.get("/audit?by=%00").text or anna.get("/audit?by=%00").is_success
        )


@on_sqlite
def test_what_comes_from_outside_is_only_ever_text(made: Rig, past: Store, otto: Person) -> None:
    key = 'order:"><script>alert(3)</script>'
    number = put(
        made.engine,
        key=key,
        payload=order("SO-1", sku=HOSTILE[:-1]),
    )
    finish(past, Refused(why("items_failed", HOSTILE)), reply=Reply(200, (("x", HOSTILE),), HOSTILE.encode()))
    otto.post("/destinations/main/hold", {"why": HOSTILE})
    for path in (
        f"/messages/{number}",
        "/dead",
        "/incidents",
        "/destinations",
        "/",
        "/search?q=nothing<script>",
    ):
        page = otto.get(path)
        assert page.status_code == 200, path
        assert page.text.count("<script") == 1, (path, "our own")
        assert "<img" not in page.text, path
        assert "\u202e" not in page.text, path
        assert "\x07" not in page.text, path
    assert SEEN in otto.get(f"/messages/{number}").text


def test_charts_count_what_ended_when(made: Rig) -> None:
    clock = Clock()
    store = Store(made.engine, clock)
    for verdict in (DELIVERED, DELIVERED, DELIVERED, LATER):
        put(made.engine)
        finish(store, verdict, seconds=0.1 if verdict is LATER else 0.5)
        clock.forward(timedelta(seconds=1))
    with store.reading() as transaction:
        span = SPANS["hour"]
        flow = throughput(transaction, span.length, span.step)
        cut = throughput(transaction, span.length, span.step, most=2)
    assert len(flow.slots) == 60
    assert (sum(each.delivered for each in flow.slots), sum(each.failed for each in flow.slots)) == (3, 1)
    assert flow.counted_since is None
    assert {each.slow for each in flow.slots} - {None} <= {0.5, 0.1}
    assert sum(each.delivered + each.failed for each in cut.slots) == 2
    assert cut.counted_since is not None
    bars, lines = bar_chart(flow), line_chart(flow)
    assert sum(bar.up_height for bar in bars.bars) > sum(bar.down_height for bar in bars.bars) > 0
    assert lines.slow
    with made.engine.connect() as connection:
        assert len(connection.execute(select(attempt)).all()) == 4
        assert len(connection.execute(select(message)).all()) == 4


@on_sqlite
def test_a_page_over_which_the_database_takes_too_long_is_given_up(
    otto: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"

    def dawdle(transaction: Any, *_: Any) -> None:
        transaction.connection.exec_driver_sql(endless).all()

    monkeypatch.setattr("worker.store.transactions.time.monotonic", later_each_time())
    monkeypatch.setattr("worker.web.pages.overview.look_at", dawdle)
    assert otto.get("/").status_code == 503


@on_sqlite
def test_charts_that_take_too_long_leave_the_rest_of_the_overview(
    otto: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fail(transaction: Any, span: timedelta, _step: timedelta) -> None:
        asked.append(span)
        transaction.connection.exec_driver_sql("SELECT * FROM no_such_table")

    monkeypatch.setattr("worker.web.pages.overview.throughput", fail)
    page = text_of(otto.get("/"))
    assert "could not be counted in time" in page
    assert "main open 0 / 8" in page
    asked.clear()
    assert "counted" not in otto.get("/?span=day", **{"X-Live": "yes"}).text
    assert asked == [], "a day is not counted again and again while it is watched"


@on_postgresql
def test_each_statement_of_a_page_is_bounded(otto: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = []

    def ask(transaction: Any, *_: Any) -> None:
        bounds.append(transaction.connection.exec_driver_sql("SHOW statement_timeout").scalar_one())
        transaction.connection.exec_driver_sql("SET LOCAL statement_timeout = '50ms'")
        transaction.connection.exec_driver_sql("SELECT pg_sleep(20)")

    monkeypatch.setattr("worker.web.pages.overview.look_at", ask)
    assert otto.get("/").status_code == 503
    assert bounds == [f"{STATEMENT_SECONDS}s"]


def later_each_time() -> Any:
    """Return a clock on which a second passes between two looks."""
    passed = iter(range(10**9))
    return lambda: float(next(passed))
