"""`status`: every destination at a glance, for people and machines, once or again and again."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, text

from orderflow_outbox.tables import gate, gate_share
from tests.databases import on_postgresql, on_sqlite, on_sqlite_first
from tests.rig import PROJECT, eventually
from tests.shell import Shell
from tests.steps import (
    DELIVERED,
    REFUSED,
    SECOND,
    Clock,
    another_connection,
    bury,
    claim_all,
    claim_one,
    destinations,
    finish,
    put,
    set_row,
)
from worker.by_hand import hold
from worker.commands import FAILED
from worker.commands.status import REFRESHED_EVERY_SECONDS, keep_showing, status_json
from worker.database import trouble_in_one_line
from worker.status import Status, Way, look_at
from worker.store.transactions import Store

MINUTE = timedelta(minutes=1)


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], engine: Engine) -> Shell:
    return Shell(capsys)


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


def look(store: Store, with_totals: bool = False) -> Status:
    with trouble_in_one_line(), store.reading() as transaction:
        return look_at(transaction, destinations(), with_totals)


def told(store: Store) -> dict[str, Any]:
    """Return what machines are told of the destination `main`."""
    (main,) = (each for each in json_of(store)["destinations"] if each["destination"] == "main")
    assert isinstance(main, dict)
    return main


def json_of(store: Store) -> dict[str, Any]:
    """Return what machines are told, moments included."""
    return dict(json.loads(json.dumps(status_json(look(store)), default=str)))


def put_gate(engine: Engine, **values: Any) -> None:
    counts = ("refusals_in_a_row", "failures_in_a_row", "failure_share", "failed_probes")
    blank = {"state": "open", "breaker": "closed", **dict.fromkeys(counts, 0)}
    with engine.begin() as connection:
        connection.execute(gate.insert().values(**{"destination": "main", **blank, **values}))


NOTHING_YET = {
    "destination": "main",
    "state": "open",
    "configured": True,
    "gate": "open",
    "gate_reason": None,
    "gate_text": None,
    "gate_changed_by": None,
    "gate_changed_at": None,
    "next_probe_at": None,
    "paused_until": None,
    "paused_operations": {},
    "window": 8,
    "rate": None,
    "slots_in_use": 0,
    "pending": 0,
    "due": 0,
    "parked": 0,
    "sending": 0,
    "open_letters": 0,
    "oldest_seconds": None,
    "oldest_due_seconds": None,
    "delivered_per_minute": 0,
    "failed_per_minute": 0,
}


@on_sqlite_first
def test_a_destination_is_shown_before_anything_was_sent_to_it(shell: Shell) -> None:
    told = shell.good("status", "--json").json
    (main,) = told["destinations"]
    ages = main.pop("ages")
    assert main == NOTHING_YET
    assert [each["up_to_seconds"] for each in ages] == [60, 300, 900, 3600, 21600, 86400, 259200, None]
    assert {each["messages"] for each in ages} == {0}
    assert (told["rates_over_seconds"], told["incidents"]) == (300, [])
    assert abs(datetime.now(UTC) - datetime.fromisoformat(told["at"])) < MINUTE
    shown = shell.good("status").out.splitlines()
    assert shown[2].split()[:5] == ["main", "open", "0", "/", "8"]


def test_status_tells_how_many_stand_where(shell: Shell, engine: Engine, store: Store) -> None:
    bury(store, engine, key="order:1")
    put(engine, key="order:1")
    assert claim_all(store).claims == []
    put(engine)
    finish(store, DELIVERED)
    put(engine)
    whole = shell.good("status", "--json").json
    (main,) = whole["destinations"]
    assert main["oldest_due_seconds"] >= 0
    assert main["oldest_seconds"] >= 0
    counts = {"pending": 2, "due": 1, "parked": 1, "sending": 0, "open_letters": 1}
    assert {name: main[name] for name in counts} == counts
    assert sum(each["messages"] for each in main["ages"]) == 2
    assert [each["reason"] for each in whole["incidents"]] == ["items_failed"]
    shown = shell.good("status").out.splitlines()
    assert shown[2].split()[5:10] == ["2", "1", "1", "0", "1"]
    assert "main order-import items_failed, 1 ×" in shown[-1]


@on_sqlite_first
def test_a_message_in_an_engines_hands_is_counted_as_being_sent(engine: Engine, store: Store) -> None:
    put(engine)
    claim_one(store)
    main = told(store)
    assert (main["pending"], main["sending"], sum(each["messages"] for each in main["ages"])) == (0, 1, 1)


def test_totals_count_the_finished_too(shell: Shell, engine: Engine, store: Store) -> None:
    bury(store, engine)
    put(engine)
    finish(store, DELIVERED)
    (main,) = shell.good("status", "--totals", "--json").json["destinations"]
    assert (main["pending"], main["open_letters"]) == (0, 1)
    finished = {"delivered": 1, "dead": 1, "superseded": 0, "cancelled": 0}
    assert {name: main[name] for name in finished} == finished
    shown = [line.split() for line in shell.good("status", "--totals").out.splitlines()]
    header = shown.index(["all", "messages"]) + 1
    assert shown[header][1:] == ["pending", "sending", "delivered", "dead", "superseded", "cancelled"]
    assert shown[header + 1] == ["main", "0", "0", "1", "1", "0", "0"]
    (main,) = shell.good("status", "--json").json["destinations"]
    assert not finished.keys() & main.keys()


@on_sqlite
def test_messages_to_a_destination_that_is_not_configured_are_shown_as_such(
    shell: Shell, engine: Engine
) -> None:
    put(engine, destination="elsewhere")
    elsewhere, main = shell.good("status", "--json").json["destinations"]
    assert (main["destination"], main["configured"]) == ("main", True)
    assert (elsewhere["state"], elsewhere["configured"], elsewhere["window"]) == (
        "not configured",
        False,
        None,
    )
    assert elsewhere["pending"] == 1
    assert "elsewhere is not configured" in shell.good("status").out


@on_sqlite_first
def test_who_holds_a_destination_and_why_is_told(shell: Shell, engine: Engine, store: Store) -> None:
    hold(store, "main", "ann", "it moves house")
    (main,) = shell.good("status", "--json").json["destinations"]
    assert (main["state"], main["gate"], main["gate_changed_by"]) == ("held", "held", "ann")
    assert (main["gate_reason"], main["gate_text"]) == ("by_hand", "it moves house")
    assert main["gate_changed_at"].endswith("+00:00")
    assert "main is held by ann since" in shell.good("status").out


@on_sqlite_first
def test_a_breaker_and_a_pause_are_told_with_their_moments(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put_gate(engine, breaker="open", probe_at=clock.now + MINUTE, paused_until=clock.now + 2 * MINUTE)
    main = told(store)
    assert (main["state"], main["gate"]) == ("breaker open", "open")
    assert datetime.fromisoformat(main["next_probe_at"]) == clock.now + MINUTE
    with engine.begin() as connection:
        connection.execute(gate.update().values(breaker="closed"))
    main = told(store)
    assert (main["state"], main["next_probe_at"]) == ("paused", None)
    assert datetime.fromisoformat(main["paused_until"]) == clock.now + 2 * MINUTE
    clock.forward(2 * MINUTE)
    assert told(store)["state"] == "open"


@on_sqlite_first
def test_the_window_is_the_one_configured_until_it_was_adapted(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put_gate(engine)
    values = {"destination": "main", "engine": "a", "slots": 3, "wanted": 3, "until": clock.now + SECOND}
    with engine.begin() as connection:
        connection.execute(gate_share.insert().values(**values))
    assert (told(store)["window"], told(store)["slots_in_use"]) == (8, 3)
    with engine.begin() as connection:
        connection.execute(gate.update().values(window=2))
    assert told(store)["window"] == 2


def test_rates_are_those_of_the_last_minutes(engine: Engine, store: Store, clock: Clock) -> None:
    for verdict in (DELIVERED, DELIVERED, REFUSED):
        put(engine)
        finish(store, verdict)
    clock.forward(MINUTE)
    assert (told(store)["delivered_per_minute"], told(store)["failed_per_minute"]) == (0.4, 0.2)
    clock.forward(5 * MINUTE)
    assert (told(store)["delivered_per_minute"], told(store)["failed_per_minute"]) == (0, 0)


def test_ages_are_those_since_a_message_was_enqueued(engine: Engine, store: Store, clock: Clock) -> None:
    set_row(engine, put(engine), created_at=clock.now - 2 * MINUTE, due_at=clock.now - SECOND)
    main = told(store)
    assert (main["oldest_seconds"], main["oldest_due_seconds"]) == (120, 1)
    assert [each["up_to_seconds"] for each in main["ages"] if each["messages"]] == [300]


def keys_of(document: Any) -> set[str]:
    """Return every key in a document, at any depth."""
    if isinstance(document, dict):
        return {*document, *(key for value in document.values() for key in keys_of(value))}
    return {key for each in document for key in keys_of(each)} if isinstance(document, list) else set()


@on_sqlite
def test_the_manual_tells_of_every_key_and_of_every_state(store: Store) -> None:
    manual = (PROJECT / "docs" / "production.md").read_text()
    document = status_json(look(store))
    speaking = {"at", "destination", "configured", "messages"}
    assert [key for key in {*keys_of(document), *Way} - speaking if f"`{key}`" not in manual] == []


# Watching


class Enough(Exception):
    """The test has seen enough."""


def watched(looks: Iterator[Callable[[], Status]], rounds: int) -> list[tuple[Status | None, str | None]]:
    """Return what is shown in so many rounds of `keep_showing`."""
    shown: list[tuple[Status | None, str | None]] = []

    def wait(seconds: float) -> None:
        assert seconds == REFRESHED_EVERY_SECONDS
        if len(shown) == rounds:
            raise Enough

    with pytest.raises(Enough):
        keep_showing(lambda: next(looks)(), lambda *what: shown.append(what), wait)
    return shown


@on_sqlite_first
def test_who_watches_sees_what_changes(engine: Engine, store: Store) -> None:
    def looks() -> Iterator[Callable[[], Status]]:
        yield lambda: look(store)
        put(engine)
        yield lambda: look(store)
        finish(store, DELIVERED)
        yield lambda: look(store)

    seen = [status for status, trouble in watched(looks(), 3) if status is not None and trouble is None]
    assert [each.destinations[0].standing.pending for each in seen] == [0, 1, 0]


@on_sqlite
def test_an_outage_is_told_below_what_was_seen_last_until_it_is_over(engine: Engine, store: Store) -> None:
    def rename(old: str, new: str) -> None:
        with engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    def looks() -> Iterator[Callable[[], Status]]:
        rename("outbox_gate", "gone")
        yield lambda: look(store)
        rename("gone", "outbox_gate")
        yield lambda: look(store)
        rename("outbox_gate", "gone")
        yield lambda: look(store)
        rename("gone", "outbox_gate")
        put(engine)
        yield lambda: look(store)

    first, good, bad, better = watched(looks(), 4)
    assert first[0] is None
    assert first[1] is not None
    assert good[0] is not None
    assert good[1] is None
    assert bad[0] is good[0]
    assert "the database refused" in (bad[1] or "")
    assert (bad[1] or "").count("\n") == 0
    assert better[0] is not None
    assert (better[0].destinations[0].standing.pending, better[1]) == (1, None)


@on_postgresql
def test_a_connection_that_was_cut_is_told_once_and_made_again(engine: Engine, store: Store) -> None:
    cut = """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
              WHERE datname = current_database() AND pid <> pg_backend_pid()"""

    def looks() -> Iterator[Callable[[], Status]]:
        yield lambda: look(store)
        other = another_connection(engine)
        with other.connect() as connection:
            connection.execute(text(cut))
        other.dispose()
        yield lambda: look(store)
        yield lambda: look(store)

    first, cut_off, again = watched(looks(), 3)
    assert (first[1], again[1]) == (None, None)
    assert (cut_off[1] or "").startswith("the database ")
    assert "\n" not in (cut_off[1] or "")


@on_sqlite
def test_an_outage_is_one_line_where_nobody_watches(shell: Shell, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE outbox_gate RENAME TO gone"))
    ran = shell.any("status")
    assert (ran.status, ran.out, ran.err.count("\n")) == (FAILED, "", 1)


def watcher(*arguments: str, **how: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "worker", "status", "--watch", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment |= {"TERM": "xterm", **how.pop("env", {})}
    # What a shell runs in the background ignores the signal of Ctrl-C, and so does all that this starts.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, cwd=PROJECT, env=environment, preexec_fn=heeding, **how)


@on_sqlite
def test_machines_get_a_document_a_line_until_ctrl_c(engine: Engine) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = watcher("--json", **pipes)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    put(engine)
    second = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert [each["destinations"][0]["pending"] for each in (first, second)] == [0, 1]
    assert all(json.loads(line) for line in rest.splitlines())


@on_sqlite
def test_a_person_keeps_the_last_picture_after_ctrl_c(engine: Engine) -> None:
    inside, outside = pty.openpty()
    process = watcher(stdin=outside, stdout=outside, stderr=outside, env={"COLUMNS": "100", "LINES": "30"})
    os.close(outside)
    seen = bytearray()

    def sees(words: bytes) -> bool:
        seen.extend(os.read(inside, 65536))
        return words in seen

    eventually(lambda: sees(b"older"))
    put(engine)
    seen.clear()
    eventually(lambda: sees(b"older"), what="a picture after the first")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    try:
        while chunk := os.read(inside, 65536):
            seen.extend(chunk)
    except OSError:  # nobody writes any more
        pass
    os.close(inside)
    shown = seen.decode()
    assert "Traceback" not in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("older"), "the cursor is shown again"
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert re.search(r"main +1 +1 ", last), "and what came last can still be read"
