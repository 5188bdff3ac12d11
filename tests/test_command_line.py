"""The command line, for people and for machines, and how it fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from orderflow_outbox.tables import audit, dead_letter, gate
from tests import nursery
from tests.databases import on_postgresql_first, on_sqlite, on_sqlite_first
from tests.documents import order
from tests.shell import Ran, Shell
from tests.steps import (
    DAY,
    LATER,
    Clock,
    bury,
    claim_all,
    finish,
    outcome,
    put,
    recorder,
    row,
    rows,
    set_row,
    why,
)
from worker.commands import FAILED, USAGE_ERROR
from worker.database import connect
from worker.deliveries import Reply
from worker.replays.replaying import replay
from worker.store.transactions import Store
from worker.verdicts import Refused, RetryLater

WHY = ("--why", "article added")


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], engine: Engine) -> Shell:
    return Shell(capsys)


@pytest.fixture
def store(engine: Engine) -> Store:
    return Store(engine, Clock())


@pytest.fixture
def document(tmp_path: Path) -> Path:
    file = tmp_path / "order.xml"
    file.write_text(order("SO-1"))
    return file


def run(*arguments: str, input: str = "") -> Ran:
    """Run a command as a person would, in a process of its own."""
    done = nursery.run("worker", *arguments, input=input)
    return Ran(done.returncode, done.stdout, done.stderr)


def test_from_an_empty_database_to_a_message_in_real_processes(tmp_path: Path) -> None:
    refused = run("status")
    assert (refused.status, refused.err.count("\n")) == (FAILED, 1)
    assert "db upgrade" in refused.err
    assert run("db", "upgrade").out == "the tables are of version 1 now\n"
    enqueue = ("enqueue", "order-import", "-", "--channel", "SHOP", "--json")
    assert run(*enqueue, input=order("SO-1")).json == {"id": 1, "state": "pending", "created": True}
    assert run("show", "1", "--payload").out.count('externalReference="SO-1"') == 1
    assert run("show", "2") == Ran(FAILED, "", "there is no message 2\n")


def test_health_is_a_database_that_answers_with_tables_of_this_release(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shell = Shell(capsys)
    refused = shell.any("health")
    assert (refused.status, refused.out, refused.err.count("\n")) == (FAILED, "", 1)
    (tmp_path / "outbox.db").touch()
    assert "no outbox tables" in shell.any("health").err
    shell.good("db", "upgrade")
    assert "answers" in shell.good("health").out
    assert shell.good("health", "--json").json == {"ok": True, "engines": 0}


def test_tables_are_made_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shell = Shell(capsys)
    assert shell.good("db", "upgrade", "--json").json == {"before": 0, "now": 1, "searches_texts": True}
    assert shell.good("db", "upgrade", "--json").json == {"before": 1, "now": 1, "searches_texts": True}
    assert shell.good("db", "upgrade").out == "the tables are of version 1 already\n"


@on_sqlite_first
def test_a_message_is_enqueued_with_all_it_may_have(shell: Shell, engine: Engine, document: Path) -> None:
    ran = shell.good(
        *("enqueue", "order-import", document, "--channel", "SHOP", "--key", "order:SO-1"),
        *("--idempotency-key", "so-1", "--version", 3, "--query", "a=b=c", "--header", "X-Trace=7"),
        *("--deliver-after", "2099-11-01T09:30", "--expires-at", "2099-12-01T09:30+01:00"),
    )
    assert ran.out == "message 1 is stored\n"
    stored = shell.good("show", 1, "--json").json
    assert (stored["key"], stored["idempotency_key"], stored["version"]) == ("order:SO-1", "so-1", 3)
    assert (stored["query"], stored["headers"]) == ({"a": "b=c"}, {"X-Trace": "7"})
    assert stored["due_at"] == "2099-11-01T09:30:00+00:00"
    assert stored["expires_at"] == "2099-12-01T08:30:00+00:00"
    assert stored["payload"] == document.read_text()


@on_sqlite
def test_enqueuing_the_same_again_says_so(shell: Shell, document: Path) -> None:
    again = ("enqueue", "order-import", document, "--channel", "SHOP", "--idempotency-key", "so-1")
    assert shell.good(*again, "--json").json == {"id": 1, "state": "pending", "created": True}
    assert shell.good(*again, "--json").json == {"id": 1, "state": "pending", "created": False}
    assert "was stored before" in shell.good(*again).out
    other = shell.any(*again, "--key", "order:SO-1")
    assert other.status == FAILED
    assert "so-1" in other.err


def a_life(engine: Engine, store: Store) -> tuple[int, int]:
    """Return a message that was tried twice and died, and its replay."""
    dead = put(engine, key="order:SO-1")
    later = RetryLater(why("http_503", "HTTP 503 Busy"), systemic=True)
    finish(store, later, reply=Reply(503, (), b"<busy/>"))
    set_row(engine, dead, due_at=datetime.now(UTC))
    gone = Refused(why("items_failed", "no such article"))
    finish(store, gone, reply=Reply(200, (), b"<result/>"), in_doubt=True)
    return dead, replay(store, dead, "ann", "article added").replay


@on_sqlite_first
def test_show_tells_attempts_replies_and_replays(shell: Shell, engine: Engine, store: Store) -> None:
    dead, new = a_life(engine, store)
    shown = shell.good("show", dead).out
    for told in (
        f"message {dead} dead: it is dead, in doubt",
        "attempt 1: HTTP 503 in 0.200 s → retry, http_503 (rule a-rule)",
        "HTTP 503 Busy",
        "attempt 2: HTTP 200 in 0.200 s → refused, items_failed",
        "POST http://127.0.0.1:1/web",
        "dead letter, replayed: items_failed: no such article",
        "replay by ann: article added",
        "2, of which 1 failed tries",
    ):
        assert told in shown
    assert f"replayed as      {new}" in shown
    assert "<busy/>" not in shown
    assert "<imports>" not in shown
    with_payload = shell.good("show", dead, "--payload").out
    assert "reply: <busy/>" in with_payload
    assert "<imports>" in with_payload
    assert f"replay of        {dead}" in shell.good("show", new).out


@on_sqlite_first
def test_show_tells_machines_the_same(shell: Shell, engine: Engine, store: Store) -> None:
    dead, new = a_life(engine, store)
    told = shell.good("show", dead, "--json").json
    assert (told["state"], told["attempts"], told["tries"], told["replayed_as"]) == ("dead", 2, 1, new)
    assert [each["status"] for each in told["attempts_made"]] == [503, 200]
    assert [each["reply_body"] for each in told["attempts_made"]] == ["<busy/>", "<result/>"]
    assert told["attempts_made"][0]["request_headers"]["Authorization"] == "********"
    assert (told["dead_letter"]["resolution"], told["dead_letter"]["note"]) == ("replayed", "article added")
    assert [(each["verb"], each["by"], each["why"]) for each in told["audit"]] == [
        ("replay", "ann", "article added")
    ]
    assert shell.good("show", new, "--json").json["replay_of"] == dead
    assert shell.good("dead", "show", dead, "--json").json == told


@on_sqlite_first
def test_show_tells_whom_a_message_waits_for(shell: Shell, engine: Engine, store: Store) -> None:
    elder = bury(store, engine, key="order:1")
    younger = put(engine, key="order:1")
    assert shell.good("show", younger, "--json").json["waits_for"] == elder
    assert f"message {elder}, an earlier one of its key" in shell.good("show", younger).out


def listed(shell: Shell, *arguments: object) -> list[int]:
    return [each["message_id"] for each in shell.good("dead", "list", *arguments, "--json").json]


@dataclass(frozen=True)
class Letters:
    """Dead letters that differ in one thing each."""

    plain: int
    of_reason: int
    of_operation: int
    of_destination: int
    old: int


@pytest.fixture
def letters(engine: Engine, store: Store) -> Letters:
    cancel = {"operation": "order-cancel", "payload": None, "query": {"externalReference": "SO-1"}}
    made = Letters(
        plain=bury(store, engine),
        of_reason=bury(store, engine, reason="not_understood"),
        of_operation=bury(store, engine, **cancel),
        of_destination=bury(store, engine),
        old=bury(store, engine),
    )
    set_row(engine, made.of_destination, destination="elsewhere")
    with engine.begin() as connection:
        connection.execute(
            dead_letter.update()
            .where(dead_letter.c.message_id == made.old)
            .values(died_at=datetime.now(UTC) - 3 * DAY)
        )
    return made


@on_sqlite_first
def test_dead_letters_are_listed_the_newest_first(shell: Shell, letters: Letters) -> None:
    everything = sorted(vars(letters).values())
    assert sorted(listed(shell)) == everything
    assert listed(shell)[-1] == letters.old
    assert listed(shell, "--limit", 2) == listed(shell)[:2]
    shown = shell.good("dead", "list", "--limit", 2).out
    assert "bad article" in shown
    assert "raise --limit above 2" in shown


def test_dead_letters_are_listed_by_what_they_share(shell: Shell, letters: Letters) -> None:
    assert listed(shell, "--reason", "not_understood") == [letters.of_reason]
    assert listed(shell, "--operation", "order-cancel") == [letters.of_operation]
    assert listed(shell, "--destination", "elsewhere") == [letters.of_destination]
    assert letters.old not in listed(shell, "--since", "2d")
    assert letters.old in listed(shell, "--since", "4d")
    assert listed(shell, "--since", f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M}") == []
    assert listed(shell, "--reason", "not_understood", "--operation", "order-cancel") == []


@on_sqlite
def test_without_dead_letters_the_list_says_so(shell: Shell) -> None:
    assert shell.good("dead", "list").out == "no open dead letter\n"
    assert shell.good("dead", "list", "--json").json == []


@on_postgresql_first
def test_the_dead_are_replayed_by_number(shell: Shell, engine: Engine, letters: Letters) -> None:
    one, other = letters.plain, letters.of_reason
    told = shell.good("dead", "replay", one, other, *WHY, "--by", "ann", "--json").json
    assert [(each["message"], each["created"]) for each in told["replayed"]] == [(one, True), (other, True)]
    assert told["refused"] == []
    assert {(each["by"], each["why"]) for each in rows(engine, audit)} == {("ann", "article added")}
    again = shell.good("dead", "replay", one, *WHY)
    assert "was replayed before" in again.out
    assert "replayed: 0" in again.out


@on_sqlite_first
@pytest.mark.parametrize(
    ("option", "value", "meant"),
    [
        ("--reason", "not_understood", "of_reason"),
        ("--operation", "order-cancel", "of_operation"),
        ("--destination", "elsewhere", "of_destination"),
    ],
)
def test_the_dead_are_replayed_and_discarded_by_what_they_share(
    shell: Shell, engine: Engine, letters: Letters, option: str, value: str, meant: str
) -> None:
    chosen = getattr(letters, meant)
    told = shell.good("dead", "replay", option, value, *WHY, "--json").json
    assert [each["message"] for each in told["replayed"]] == [chosen]
    assert chosen not in listed(shell)
    rest = len(listed(shell))
    assert rest == 4
    assert shell.good("dead", "discard", option, value, *WHY, "--json").json["discarded"] == []
    assert len(listed(shell)) == rest


@on_postgresql_first
def test_the_dead_are_discarded_by_when_they_died(shell: Shell, letters: Letters) -> None:
    assert shell.good("dead", "discard", "--since", "2d", *WHY).out == "discarded: 4\n"
    assert listed(shell) == [letters.old]
    assert shell.good("dead", "discard", "--all", *WHY, "--json").json == {
        "discarded": [letters.old],
        "refused": [],
    }


@on_sqlite_first
def test_what_cannot_be_replayed_is_told_and_the_others_are(
    shell: Shell, engine: Engine, store: Store
) -> None:
    dead, waiting = bury(store, engine), put(engine)
    ran = shell.any("dead", "replay", dead, waiting, 4711, *WHY)
    assert ran.status == FAILED
    assert "replayed: 1" in ran.out
    assert ran.err.splitlines() == [
        f"message {waiting} is pending: only a dead message can be replayed",
        "there is no message 4711",
    ]
    machine = shell.any("dead", "replay", waiting, *WHY, "--json")
    assert (machine.status, machine.err, machine.json["replayed"]) == (FAILED, "", [])
    assert len(machine.json["refused"]) == 1


def test_waiting_messages_are_cancelled_by_number_and_by_filter(
    shell: Shell, engine: Engine, store: Store
) -> None:
    first, second, third = (put(engine) for _ in range(3))
    elsewhere = put(engine, destination="elsewhere")
    assert shell.good("cancel", first, *WHY).out == "cancelled: 1\n"
    assert shell.good("cancel", "--destination", "elsewhere", *WHY, "--json").json == {
        "cancelled": [elsewhere],
        "refused": [],
    }
    assert shell.good("cancel", "--operation", "order-cancel", *WHY).out == "cancelled: 0\n"
    assert shell.good("cancel", "--since", "1h", *WHY).out == "cancelled: 2\n"
    assert {row(engine, each)["state"] for each in (first, second, third, elsewhere)} == {"cancelled"}
    refused = shell.any("cancel", first, *WHY)
    assert (refused.status, refused.err.count("\n")) == (FAILED, 1)


@on_sqlite_first
def test_a_filter_added_to_numbers_narrows_what_is_cancelled(shell: Shell, engine: Engine) -> None:
    here, elsewhere = put(engine), put(engine, destination="elsewhere")
    shell.good("cancel", here, elsewhere, "--destination", "elsewhere", *WHY)
    assert (row(engine, here)["state"], row(engine, elsewhere)["state"]) == ("pending", "cancelled")


@on_sqlite_first
def test_what_failed_last_for_a_reason_is_cancelled_by_it(shell: Shell, engine: Engine, store: Store) -> None:
    failing = put(engine)
    finish(store, RetryLater(why("http_500"), systemic=True))
    waiting = put(engine)
    assert shell.good("cancel", "--reason", "http_404", *WHY).out == "cancelled: 0\n"
    assert shell.good("cancel", "--reason", "http_500", *WHY, "--json").json["cancelled"] == [failing]
    assert (row(engine, failing)["state"], row(engine, waiting)["state"]) == ("cancelled", "pending")


@on_sqlite_first
def test_the_sweep_tells_what_it_did(shell: Shell, engine: Engine) -> None:
    put(engine)
    put(engine, expires_at=datetime.now(UTC) + DAY)
    claim_all(Store(engine, Clock()), room=1)
    set_row(engine, 1, lease_until=datetime.now(UTC) - DAY)
    set_row(engine, 2, expires_at=datetime.now(UTC) - DAY)
    assert shell.good("sweep", "--json").json == {"rescued": 1, "unparked": 0, "aging": 0, "expired": 1}
    assert shell.good("sweep").out == "rescued 0, unparked 0, found 0 near their end, ended 0 as expired\n"


@on_sqlite_first
def test_a_destination_is_held_and_resumed(shell: Shell, engine: Engine) -> None:
    assert shell.good("hold", "main", *WHY).out == "main is held\n"
    assert rows(engine, gate)[0]["state"] == "held"
    put(engine)
    assert shell.good("status", "--json").json["destinations"][0]["gate"] == "held"
    assert shell.good("resume", "main", *WHY).out == "main is open\n"
    assert shell.good("resume", "main", *WHY).out == "main was open already\n"
    assert shell.good("hold", "main", *WHY, "--json").json == {"destination": "main", "gate": "held"}
    assert shell.good("resume", "main", *WHY, "--json").json == {
        "destination": "main",
        "gate": "open",
        "was_held": True,
        "probed": False,
    }


@on_sqlite_first
def test_one_left_alone_after_failures_is_probed_at_once_when_it_is_resumed(
    shell: Shell, engine: Engine
) -> None:
    store = Store(engine)
    for _ in range(5):
        put(engine)
    recorder(store).record([outcome(each, LATER) for each in claim_all(store).claims])
    assert rows(engine, gate)[0]["breaker"] == "open"
    said = "main was open already; its breaker is too: a probe is made now\n"
    assert shell.good("resume", "main", *WHY).out == said
    assert rows(engine, gate)[0]["probe_at"] <= datetime.now(UTC)
    told = shell.good("resume", "main", *WHY, "--json").json
    assert (told["was_held"], told["probed"]) == (False, True)


@on_sqlite
def test_who_acts_is_the_user_named_in_the_environment(
    shell: Shell, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOX_USER", "ann")
    shell.good("cancel", put(engine), *WHY)
    assert rows(engine, audit)[0]["by"] == "ann"


@on_sqlite
def test_the_configuration_is_checked(shell: Shell) -> None:
    assert "are in order" in shell.good("config", "check").out
    told = shell.good("config", "check", "--json").json
    assert told["ok"] is True
    patience = {each["operation"]: each["tries"] for each in told["patience"]}
    assert patience["order-cancel"] == 5


@on_sqlite
def test_each_problem_of_the_configuration_is_a_line_of_its_own(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOX_ENGINE__LEASE", "soon")
    monkeypatch.setenv("OUTBOX_ENGINE__DRAIN", "later")
    ran = shell.any("config", "check")
    assert (ran.status, ran.out) == (FAILED, "")
    assert [line.split(": ")[0] for line in ran.err.splitlines()] == [
        "environment variable OUTBOX_ENGINE__LEASE",
        "environment variable OUTBOX_ENGINE__DRAIN",
    ]


TOO_LARGE = 2**63


@on_sqlite
@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["nope"], USAGE_ERROR, "No such command 'nope'"),
        (["status", "--nope"], USAGE_ERROR, "--nope"),
        (["show"], USAGE_ERROR, "Missing argument 'ID'"),
        (["show", "x"], USAGE_ERROR, "'ID'"),
        (["show", TOO_LARGE], USAGE_ERROR, "ID"),
        (["show", 4711], FAILED, "there is no message 4711"),
        (["dead", "show", 4711], FAILED, "there is no message 4711"),
        (["dead", "replay", *WHY], USAGE_ERROR, "name messages by number"),
        (["dead", "replay", TOO_LARGE, *WHY], USAGE_ERROR, "ID"),
        (["dead", "replay", 1], USAGE_ERROR, "--why"),
        (["dead", "replay", 1, "--why", " "], USAGE_ERROR, "--why is empty"),
        (["dead", "replay", 4711, *WHY], FAILED, "there is no message 4711"),
        (["dead", "discard", *WHY], USAGE_ERROR, "name messages by number"),
        (["dead", "discard", 4711, *WHY], FAILED, "there is no message 4711"),
        (["dead", "list", "--since", "soon"], USAGE_ERROR, "--since is 'soon'"),
        (["dead", "list", "--since", "99999999d"], USAGE_ERROR, "--since"),
        (["dead", "list", "--limit", 0], USAGE_ERROR, "--limit"),
        (["dead", "list", "--destination", "\udcff"], USAGE_ERROR, "is not UTF-8"),
        (["cancel", *WHY], USAGE_ERROR, "name messages by number"),
        (["cancel", 4711, *WHY], FAILED, "there is no message 4711"),
        (["hold", "nowhere", *WHY], USAGE_ERROR, "choose one of main"),
        (["resume", "nowhere", *WHY], USAGE_ERROR, "choose one of main"),
        (["hold", "main", "--why", "\udcff"], USAGE_ERROR, "is not UTF-8"),
        (["enqueue", "nope"], FAILED, "choose one of order-cancel"),
        (["enqueue", "order-import", "/nowhere.xml"], USAGE_ERROR, "/nowhere.xml cannot be read"),
        (["enqueue", "order-cancel", "--destination", "nowhere"], USAGE_ERROR, "choose one of main"),
        (["enqueue", "order-cancel", "--query", "x"], USAGE_ERROR, "write it as NAME=VALUE"),
        (["enqueue", "order-cancel", "--expires-at", "soon"], USAGE_ERROR, "--expires-at is 'soon'"),
        (["enqueue", "order-cancel", "--query", "externalReference=1"], FAILED, "channel"),
        (["config", "check", "/nowhere.toml"], FAILED, "/nowhere.toml"),
    ],
    ids=lambda value: " ".join(map(repr, value)) if isinstance(value, list) else "",
)
def test_an_error_is_one_line_and_a_status(
    shell: Shell, engine: Engine, arguments: Sequence[object], status: int, told: str
) -> None:
    ran = shell.any(*arguments)
    assert ran.status == status
    assert ran.err.count("\n") == 1
    assert ran.err.endswith("\n")
    assert told in ran.err
    assert rows(engine, audit) == []


@on_sqlite
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:///{folder}/order.xml", "file is not a database"),
        ("sqlite:///{folder}/order.xml/outbox.db", "there is no database"),
        ("sqlite:///{folder}", "unable to open database file"),
        ("mysql://ann:hush@127.0.0.1/shop", "database_url is (hidden)"),
    ],
    ids=["no database", "no folder", "a folder", "another kind"],
)
def test_a_database_that_cannot_be_used_is_one_line_without_its_password(
    shell: Shell, document: Path, monkeypatch: pytest.MonkeyPatch, url: str, told: str
) -> None:
    monkeypatch.setenv("OUTBOX_DATABASE_URL", url.format(folder=document.parent))
    ran = shell.any("status")
    assert (ran.status, ran.out, ran.err.count("\n")) == (FAILED, "", 1)
    assert told in ran.err
    assert "hush" not in ran.err


@on_sqlite
def test_an_error_in_a_process_of_its_own_has_no_traceback(engine: Engine) -> None:
    ran = run("cancel", str(put(engine)), "--by", "\udcff", *WHY)
    assert ran.status == USAGE_ERROR
    assert (ran.out, ran.err.count("\n")) == ("", 1)


BAD_FOR_TERMINALS = "\x1b[2Jgone\x07\x9b31m\r\u202e[bold]"


@on_sqlite
def test_control_characters_of_stored_text_never_reach_the_terminal(
    shell: Shell, engine: Engine, store: Store
) -> None:
    dead = put(engine)
    said = Refused(why("items_failed", BAD_FOR_TERMINALS))
    finish(store, said, reply=Reply(200, (), BAD_FOR_TERMINALS.encode()))
    shell.good("dead", "discard", dead, "--why", BAD_FOR_TERMINALS, "--by", BAD_FOR_TERMINALS)
    out = shell.good("show", dead, "--payload").out + shell.good("status").out
    other = put(engine)
    finish(store, said)
    out += shell.good("dead", "list").out + shell.good("dead", "show", other).out
    assert "gone" in out
    assert "[bold]" in out, "and nothing is taken for markup"
    assert not set(out) & set("\x1b\x07\x9b\r\u202e")


@on_sqlite
def test_control_characters_reach_machines_escaped(shell: Shell, engine: Engine, store: Store) -> None:
    dead = put(engine)
    finish(store, Refused(why("items_failed", BAD_FOR_TERMINALS)))
    ran = shell.good("show", dead, "--json")
    assert ran.json["dead_letter"]["text"] == BAD_FOR_TERMINALS
    assert not set(ran.out) & set("\x1b\x07\r")


@on_sqlite
def test_a_database_opened_by_the_command_line_is_the_one_of_the_settings(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOX_DATABASE_URL", f"sqlite:///{tmp_path}/new/other.db")
    shell.good("db", "upgrade")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    other = connect(SecretStr(f"sqlite:///{tmp_path}/new/other.db"))
    put(other)
    other.dispose()
    assert shell.good("status", "--json").json["destinations"][0]["pending"] == 1


@on_sqlite
def test_a_command_that_only_looks_makes_no_database(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOX_DATABASE_URL", f"sqlite:///{tmp_path}/mistyped/outbox.db")
    refused = shell.any("status")
    assert (refused.status, refused.err.count("\n")) == (FAILED, 1)
    assert "python -m worker db upgrade" in refused.err
    assert not (tmp_path / "mistyped").exists()


@on_sqlite
def test_a_dead_letter_is_told_in_full_however_narrow_the_terminal(shell: Shell, letters: Letters) -> None:
    told = shell.good("dead", "list").out
    assert "bad article" in told
    assert "items_failed" in told


@on_sqlite
@pytest.mark.parametrize(("name", "text"), [(" ", "--by is empty"), (" the service", "by itself")])
def test_who_does_it_is_neither_nobody_nor_the_service(
    shell: Shell, engine: Engine, letters: Letters, name: str, text: str
) -> None:
    refused = shell.any("dead", "replay", letters.plain, *WHY, "--by", name)
    assert (refused.status, refused.err.count("\n")) == (USAGE_ERROR, 1)
    assert text in refused.err
    assert rows(engine, audit) == []
