"""The whole service as one command, and its Flower completed.

Flower shows every message, dead letters on a page of their own, Revoke, and the story of a replay in rows.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
import pytest
from playwright.sync_api import Browser

from config import load_settings
from orderflow_outbox import hint_after_commit
from orderflow_outbox.tables import audit, dead_letter
from simulator import Options
from tests.flowers import Visitor, get, is_ready, login_of, up
from tests.rig import Place, Rig, eventually, free_port, rig
from tests.steps import row, rows
from worker.broker import address_of_broker
from worker.replays.replaying import replay
from worker.store.transactions import Store

FAULTS = [
    *(
        f"500:operation=order-import,reference={each},times=1,status=422"
        for each in ("SO-ONCE", "SO-ONCE-MORE", "SO-ONCE-SEEN")
    ),
    "500:operation=order-import,reference=SO-GROUP,status=409",
    "500:operation=order-import,reference=SO-NEVER,status=422",
    "500:operation=order-import,reference=SO-WAITS",
    *(f"500:operation=order-import,reference={each},times=1" for each in ("SO-LATE", "SO-BAD")),
    "500:operation=order-import,reference=SO-BAD,status=422",
    "hang:operation=order-import,reference=SO-HANGS",
]
HOSTILE = "<script>document.title = 'owned'</script> \x1b[2J\u202edrawkcab"


@dataclass(frozen=True, slots=True)
class Running:
    """The service, and someone who is logged in to its Flower."""

    made: Rig
    admin: Visitor
    login: str
    service: subprocess.Popen[str]

    def dead(self, reference: str) -> int:
        """Return an order that has died."""
        message_id = self.made.order(reference).id
        self.until(message_id, "dead")
        return message_id

    def until(self, message_id: int, state: str) -> None:
        eventually(lambda: row(self.made.engine, message_id)["state"] == state, what=f"it is {state}")

    def told(self, message_id: int, **expected: Any) -> dict[str, Any]:
        """Return a message's row in Flower, once it tells what is expected."""

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self.admin.rows().get(f"message-{message_id}", {})
            return found if expected.items() <= found.items() else None

        return eventually(look, what=f"the row of message {message_id} tells {expected}") or {}

    def resolution(self, message_id: int) -> str:
        (letter,) = rows(self.made.engine, dead_letter, message_id=message_id)
        return str(letter["resolution"])

    def noted(self, message_id: int) -> list[tuple[str, str, str]]:
        found = rows(self.made.engine, audit, message_id=message_id)
        return [(each["verb"], each["by"], each["why"]) for each in found]

    def processes(self) -> set[int]:
        """Return the numbers of the service's processes."""
        return {each.pid for each in psutil.Process(self.service.pid).children(recursive=True)}

    def revoke(self, message_id: int, **how: object) -> tuple[int, str]:
        """Press Revoke, or Terminate, on the row of a message."""
        form = urlencode({"terminate": False, **how}).encode()
        answer = self.admin.ask("POST", f"/api/task/revoke/message-{message_id}", form)
        return answer.status, answer.text


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("flower")
    place = Place(folder, f"sqlite:///{folder}/outbox.db")
    port = free_port()
    settings = {"retry_after": ["100ms", "1h"], "attempt_deadline": "8s", "lease": 24.0, "drain": "500ms"}
    with rig(place, Options(faults=FAULTS), flower_port=port, **settings) as made, up(made) as service:
        login = login_of(made)
        admin = Visitor(f"http://127.0.0.1:{port}", login)
        eventually(lambda: is_ready(made))
        hint_after_commit(made.engine, address_of_broker(load_settings(made.file)))
        eventually(lambda: admin.get("/api/workers").status == 200)
        yield Running(made, admin, login, service)


# The service


def test_its_passwords_are_told_once_and_kept_and_let_nobody_else_in(running: Running) -> None:
    base, said = running.admin.base, (running.made.folder / "up.log").read_text()
    assert running.login.removeprefix("admin:") in said
    for page in ("", "workers", "tasks", "broker", "metrics", "api/tasks", "api/workers"):
        assert get(f"{base}/{page}")[0] == 401, page
    assert get(f"{base}/metrics", running.login)[0] == 200
    assert get(f"{base}/api/tasks", "admin:guess")[0] == 401
    web = load_settings(running.made.file).web
    console = f"http://127.0.0.1:{web.port}"
    eventually(lambda: get(f"{console}/health") == (200, b"OK\n"), what="the console answers")
    kept = (running.made.folder / "state" / "web-password").read_text().strip()
    assert f"Console: {console} as {web.user}" in said
    assert kept in said
    assert kept not in (running.made.folder / "state" / "web.log").read_text()


@pytest.mark.parametrize(
    ("reference", "state", "retries"),
    [("SO-GOOD", "SUCCESS", 0), ("SO-LATE", "SUCCESS", 1), ("SO-BAD", "FAILURE", 1)],
)
def test_every_message_is_a_row_in_flower(running: Running, reference: str, state: str, retries: int) -> None:
    message_id = running.made.order(reference, key=f"order:{reference}").id
    row = running.told(message_id, state=state)
    assert row["name"] == "order-import"
    assert f"order:{reference}" in row["args"]
    assert f"'id': {message_id}" in row["kwargs"]
    assert row["runtime"] > 0
    assert row["retries"] == retries
    assert bool(row["exception"]) == (state == "FAILURE")
    assert "CDATA" not in json.dumps(row), "a payload is in no event"


# The page


@pytest.mark.parametrize("login", [None, "admin:guess"], ids=["nobody", "a-guess"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])
def test_a_stranger_sees_and_does_nothing(running: Running, method: str, login: str | None) -> None:
    answer = Visitor(running.admin.base, login).ask(method, "/dead-letters")
    assert (answer.status, "page-section" in answer.text) == (401, False)


def test_the_page_is_linked_from_every_page(running: Running) -> None:
    for page in ("/", "/workers", "/tasks", "/broker", "/dead-letters"):
        assert 'href="/dead-letters"' in running.admin.get(page).text, page


def test_nobody_keeps_or_frames_the_page_or_runs_a_script_of_his_own_in_it(running: Running) -> None:
    headers = running.admin.get("/dead-letters").headers
    assert headers["Cache-Control"] == "no-store"
    policy = headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy


def test_a_form_of_another_site_does_nothing(running: Running) -> None:
    message_id = running.dead("SO-NEVER")
    form = {"verb": "discard", "why": "forged", "message": message_id}
    token = running.admin.token()
    for given, headers in (
        (form, {}),
        ({**form, "_xsrf": "guessed"}, {}),
        ({**form, "_xsrf": token}, {"Origin": "https://evil.example"}),
        ({**form, "_xsrf": token}, {"Sec_Fetch_Site": "cross-site"}),
    ):
        answer = running.admin.ask("POST", "/dead-letters", urlencode(given).encode(), **headers)
        assert answer.status == 403
    assert running.noted(message_id) == []


def test_dead_letters_are_replayed_and_discarded_under_the_name_of_the_login(running: Running) -> None:
    first, second = running.dead("SO-ONCE"), running.dead("SO-NEVER")
    page = running.admin.get("/dead-letters").text
    assert f"Replay message {first}" in page
    assert f"Discard message {second}" in page
    done = running.admin.press("replay", "article <added>", message=first)
    assert f"message {first} is replayed as message {second + 1}" in done.text
    assert f"Replay message {first}" not in done.text
    assert running.noted(first) == [("replay", "admin", "article <added>")]
    done = running.admin.press("discard", "a test", message=second)
    assert f"message {second} is discarded" in done.text
    assert running.noted(second) == [("discard", "admin", "a test")]
    assert "is discarded" not in running.admin.get("/dead-letters").text, "it is told once"
    running.until(second + 1, "delivered")


def test_nothing_is_done_without_a_reason_why(running: Running) -> None:
    message_id = running.dead("SO-NEVER")
    for why in ("", "  ", "x" * 501):
        assert "say why" in running.admin.press("discard", why, message=message_id).text
    assert running.resolution(message_id) == "open"


@pytest.mark.parametrize(
    "wrong",
    [
        {"verb": "purge", "message": 1},
        {"message": "1 OR 1"},
        {"message": 2**63},
        {"message": "9" * 5000},
        {"message": "0" * 19 + "1" + "9" * 5000},
        {
            "reason": "http_422",
            "operation": "o",
            "destination": "d",
            "number": 1,
            "until": "2026-11-01T09:30",
        },
        {"reason": "http_422"},
        {"message": 1, "page": "x"},
    ],
    ids=str,
)
def test_a_form_that_the_page_never_made_is_refused(running: Running, wrong: dict[str, object]) -> None:
    answer = running.admin.press(**{"verb": "discard", "why": "odd", **wrong})  # type: ignore[arg-type]
    assert answer.status == 400
    assert "Traceback" not in answer.text


def test_what_a_receiver_wrote_is_shown_as_text(running: Running) -> None:
    message_id = running.dead("SO-NEVER")
    write_reason(running, message_id, HOSTILE)
    page = running.admin.get("/dead-letters").text
    assert "&lt;script&gt;document.title = &#x27;owned&#x27;&lt;/script&gt; ·[2J·drawkcab" in page
    assert "<script>document" not in page


def write_reason(running: Running, message_id: int, text: str) -> None:
    with running.made.engine.begin() as connection:
        connection.execute(
            dead_letter.update().where(dead_letter.c.message_id == message_id).values(text=text)
        )


def test_a_group_is_done_with_as_one(running: Running) -> None:
    ids = [running.dead("SO-GROUP") for _ in range(2)]
    other = running.dead("SO-NEVER")
    group = {"reason": "http_409", "operation": "order-import", "destination": "main"}
    page = running.admin.get(f"/dead-letters?{urlencode(group)}").text
    assert "Only of http_409, order-import, main" in page
    assert f"Replay message {ids[0]}" in page
    assert f"Replay message {other}" not in page
    shown = {name: re.findall(f'name="{name}" value="([^"]+)"', page)[0] for name in ("until", "number")}
    assert "discarded: 2" in running.admin.press("discard", "a test", **group, **shown).text
    assert [running.resolution(each) for each in (*ids, other)] == ["discarded", "discarded", "open"]
    assert running.noted(ids[1]) == [("discard", "admin", "a test")]


# Rows


def test_the_row_of_a_replayed_message_tells_how_that_ended(running: Running) -> None:
    origin = running.dead("SO-ONCE-MORE")
    failed = running.told(origin, state="FAILURE")
    assert failed["exception"]
    made = replay(Store(running.made.engine), origin, "ann", "as the command line does")
    told = running.told(origin, state="SUCCESS")
    assert told["result"] == f"replayed as message {made.replay}: 1 imported"
    assert (told["exception"], told["traceback"]) == (None, None)
    assert f"'replayed_as': {made.replay}" in told["kwargs"]
    assert told["children"] == [f"message-{made.replay}"]
    row_of_replay = running.told(made.replay, state="SUCCESS")
    assert row_of_replay["parent_id"] == f"message-{origin}"
    assert f"'replay_of': {origin}" in row_of_replay["kwargs"]
    page = running.admin.get(f"/task/message-{made.replay}").text
    assert f'href="/task/message-{origin}"' in page


def test_the_row_of_a_message_whose_replay_died_tells_that(running: Running) -> None:
    origin = running.dead("SO-NEVER")
    made = replay(Store(running.made.engine), origin, "ann", "hope")
    running.until(made.replay, "dead")
    told = running.told(made.replay, state="FAILURE")
    expected = f"replayed as message {made.replay}, which is dead: {told['exception']}"
    running.told(origin, state="FAILURE", exception=expected)


# Revoke


def test_revoke_cancels_a_message_that_waits_and_its_row_says_so(running: Running) -> None:
    message_id = running.made.order("SO-WAITS").id
    running.told(message_id, state="RETRY", retries=2)
    status, text = running.revoke(message_id)
    assert (status, json.loads(text)) == (200, {"message": f"message {message_id} is cancelled"})
    assert row(running.made.engine, message_id)["state"] == "cancelled"
    running.told(message_id, state="REVOKED", exception="cancelled: revoked in Flower")
    assert running.revoke(message_id)[0] == 200, "it is cancelled, whoever asks"
    assert running.noted(message_id) == [("cancel", "flower", "revoked in Flower")]


def test_revoke_leaves_a_message_alone_that_has_ended_and_says_so(running: Running) -> None:
    message_id = running.dead("SO-NEVER")
    assert running.revoke(message_id) == (
        409,
        f"message {message_id} is dead already: only a pending message can be cancelled",
    )
    assert running.revoke(10**9) == (409, f"there is no message {10**9}")
    assert (row(running.made.engine, message_id)["state"], running.noted(message_id)) == ("dead", [])


def test_no_process_is_ended_for_a_message_that_is_being_sent(running: Running) -> None:
    message_id = running.made.order("SO-HANGS").id
    running.told(message_id, state="STARTED")
    processes = running.processes()
    status, text = running.revoke(message_id, terminate=True, signal="SIGKILL")
    assert (status, text.partition(":")[0]) == (409, f"message {message_id} is being sent right now")
    assert running.processes() == processes
    assert row(running.made.engine, message_id)["state"] == "sending"


def test_revoke_leaves_celerys_own_tasks_to_celery(running: Running) -> None:
    answer = running.admin.ask("POST", "/api/task/revoke/4a5c6e0a-1a5b-4c53-9d7f-0a7d6c1b1f00")
    assert json.loads(answer.text) == {"message": "Revoked '4a5c6e0a-1a5b-4c53-9d7f-0a7d6c1b1f00'"}
    assert running.revoke(1, terminate="maybe")[0] in (200, 409), "what only tasks need is not looked at"


# A browser


def test_in_a_browser_a_letter_is_replayed_and_a_script_in_it_is_text(
    running: Running, browser: Browser
) -> None:
    message_id = running.dead("SO-ONCE-SEEN")
    write_reason(running, message_id, HOSTILE)
    shown = "<script>document.title = 'owned'</script>"
    running.told(message_id, state="FAILURE")
    user, _, password = running.login.partition(":")
    page = browser.new_page(http_credentials={"username": user, "password": password})
    complaints: list[str] = []
    page.on("console", lambda told: complaints.append(told.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{running.admin.base}/tasks")
    page.get_by_role("link", name="Dead letters").click()
    page.get_by_role("row", name=f"{message_id} order-import").get_by_text(shown).wait_for()
    assert page.title() == "Dead letters · Flower"
    page.get_by_label(f"Why, kept with message {message_id}").fill("<b>mended</b>")
    page.get_by_role("button", name=f"Replay message {message_id}").click()
    page.get_by_role("status").get_by_text(f"message {message_id} is replayed as").wait_for()
    assert page.get_by_role("button", name=f"Replay message {message_id}").count() == 0
    page.close()
    assert complaints == []
    assert running.noted(message_id) == [("replay", "admin", "<b>mended</b>")]


# The end


def processes_of(made: Rig) -> list[str]:
    """Return the command lines of processes started with this rig's configuration."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"OUTBOX_CONFIG={made.file}".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def test_term_stops_everything(running: Running) -> None:
    running.service.send_signal(signal.SIGTERM)
    assert running.service.wait(30) == 0
    eventually(lambda: processes_of(running.made) == [], seconds=5, what="nothing is left")
