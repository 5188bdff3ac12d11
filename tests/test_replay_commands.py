"""Replays from the command line: dry runs, groups, runs that are watched, and a document in an editor."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from orderflow_outbox import PREDEFINED
from orderflow_outbox.tables import audit, edit, message
from tests.databases import on_sqlite
from tests.documents import order
from tests.shell import Shell
from tests.steps import DELIVERED, REFUSED, SECOND, Clock, bury, claim_all, outcome, put, recorder, row, rows
from worker.commands import FAILED, USAGE_ERROR
from worker.commands import replays as commands
from worker.replays.driving import drive
from worker.store.transactions import Store
from worker.verdicts import Verdict

pytestmark = on_sqlite
WHY = ("--why", "article added", "--by", "ann")
SILENT = "no engine is alive: the run goes on once a worker is started\n"


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], engine: Engine) -> Shell:
    return Shell(capsys)


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


@pytest.fixture
def dead(engine: Engine, store: Store) -> list[int]:
    """Twelve that died together."""
    ids = [put(engine, payload=order(f"SO-{n}")) for n in range(12)]
    assert recorder(store).record([outcome(each, REFUSED) for each in claim_all(store).claims])
    return ids


@contextmanager
def an_engine(store: Store, clock: Clock, verdict: Verdict = DELIVERED) -> Iterator[None]:
    """Do what an engine does for runs, each second of the clock: replay, and have each replay end."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.01):
            clock.forward(SECOND)
            drive(store, PREDEFINED)
            recorder(store).record([outcome(each, verdict) for each in claim_all(store).claims])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_dry_run_tells_what_is_in_the_way_and_writes_nothing(
    shell: Shell, engine: Engine, store: Store, dead: list[int]
) -> None:
    foreign = bury(store, engine)
    with engine.begin() as connection:
        connection.execute(message.update().where(message.c.id == foreign).values(destination="old"))
    told = shell.good("dead", "replay", "--all", "--dry-run", "--json").json
    assert (told["total"], told["sendable"]) == (13, 12)
    assert told["found"]["not_configured"] == {
        "number": 1,
        "examples": [{"message": foreign, "text": "no destination old is configured"}],
    }
    shown = shell.good("dead", "replay", "--all", "--dry-run").out
    assert "a dry run: 12 of 13 messages would be replayed\n" in shown
    assert f"message {foreign}: no destination old is configured" in shown
    assert (len(rows(engine, message)), rows(engine, audit)) == (13, [])


def test_a_run_of_no_letters_is_no_run_and_no_failure(shell: Shell) -> None:
    assert shell.good("dead", "replay", "--reason", "none", "--canary", 2, *WHY).out == "replayed: 0\n"
    assert shell.good("replays", "--json").json == []


def test_letters_are_listed_by_cause(shell: Shell, engine: Engine, store: Store, dead: list[int]) -> None:
    bury(store, engine, reason="not_understood")
    told = shell.good("dead", "list", "--groups", "--json").json
    counted = {each["reason"]: each["number"] for each in told}
    assert counted == {"items_failed": 12, "not_understood": 1}
    shown = shell.good("dead", "list", "--groups", "--reason", "not_understood").out
    assert "not_understood" in shown
    assert "items_failed" not in shown
    assert shell.good("dead", "list", "--groups", "--reason", "else").out == "no open dead letter\n"


def test_a_run_is_watched_to_its_end(
    shell: Shell,
    engine: Engine,
    store: Store,
    clock: Clock,
    dead: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands, "LOOK_SECONDS", 0.02)
    with an_engine(store, clock):
        ran = shell.any("dead", "replay", "--all", "--canary", 3, "--rate", "100/s", *WHY)
    assert (ran.status, ran.err) == (0, SILENT)
    first, *_, last = ran.out.splitlines()
    assert first == "run 1 has begun: 12 of 12 messages are replayed"
    assert last == "run 1 is finished; 12 of 12 sent, 12 delivered, 0 failed, 0 under way"
    assert sum(each["replay_of"] is not None for each in rows(engine, message)) == 12


def test_a_run_that_is_stopped_is_told_by_the_exit_status(
    shell: Shell, store: Store, clock: Clock, dead: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "LOOK_SECONDS", 0.02)
    with an_engine(store, clock, REFUSED):
        ran = shell.any("dead", "replay", "--all", "--canary", 4, "--stop-at", "25%", *WHY, "--json")
    assert (ran.status, ran.json["state"], ran.json["to_come"]) == (1, "stopped", 8)
    assert "failed again: past the 25 %" in ran.json["said"]


def test_watching_ends_with_ctrl_c_and_the_run_goes_on(
    shell: Shell, dead: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands.time, "sleep", interrupt)
    ran = shell.any("dead", "replay", "--all", "--canary", 4, *WHY)
    assert ran.status == 0
    assert "run 1 goes on by itself; to watch it again: python -m worker replays show 1 --watch" in ran.err
    assert shell.good("replays", "show", 1, "--json").json["state"] == "canary"


def test_runs_are_listed_shown_stopped_continued_and_cancelled(
    shell: Shell, engine: Engine, store: Store, dead: list[int]
) -> None:
    assert "no run has begun" in shell.good("replays").out
    wanted = ("--reason", "items_failed", "--canary", 4, "--rate", "60/m")
    begun = shell.any("dead", "replay", *wanted, "--detach", *WHY, "--json")
    asked = {name: begun.json[name] for name in ("id", "wanted", "canary", "rate", "stop_at")}
    assert (begun.status, asked) == (
        0,
        {"id": 1, "wanted": {"reason": "items_failed"}, "canary": 4, "rate": "60/min", "stop_at": 0.2},
    )
    assert drive(store, PREDEFINED).sent == 4
    stopped = shell.good("replays", "stop", 1, "--why", "their night", "--by", "bob").out
    assert stopped == "run 1 is stopped: their night; 4 of 12 sent, 0 delivered, 0 failed, 4 under way\n"
    assert "their night" in shell.good("replays").out
    assert shell.good("replays", "--json").json[0]["state"] == "stopped"
    assert "run 1 is waiting" in shell.good("replays", "continue", 1, *WHY).out
    assert shell.good("replays", "cancel", 1, *WHY, "--json").json["state"] == "cancelled"
    shown = shell.good("replays", "show", 1).out
    for part in (
        "by ann: article added",
        "canary           4, which may take 1 h",
        "rate             60/min",
    ):
        assert part in shown
    assert shell.any("replays", "show", 1, "--watch").status == 1
    verbs = [each["verb"] for each in rows(engine, audit) if each["verb"] != "replay"]
    assert verbs == ["begin-run", "stop-run", "continue-run", "cancel-run"]


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["dead", "replay", "--all", "--rate", "fast", *WHY], USAGE_ERROR, "write it as 60/m, 5/s or 600/h"),
        (["dead", "replay", "--all", "--rate", "0/m", *WHY], USAGE_ERROR, "--rate is '0/m'"),
        (["dead", "replay", "--all", "--stop-at", "0.2", *WHY], USAGE_ERROR, "write a share such as 20%"),
        (["dead", "replay", "--all", "--stop-at", "101%", *WHY], USAGE_ERROR, "--stop-at is '101%'"),
        (["dead", "replay", "--all", "--canary-wait", "1h", *WHY], USAGE_ERROR, "goes with --canary"),
        (
            ["dead", "replay", "--all", "--rate", "5/s", "--stop-at", "20%", "--canary-wait", "1h", *WHY],
            USAGE_ERROR,
            "goes with --canary",
        ),
        (
            ["dead", "replay", "--all", "--canary", 1, "--canary-wait", "x", *WHY],
            USAGE_ERROR,
            '"10m" or "2h"',
        ),
        (["dead", "replay", "--all", "--canary", 1, "--force", *WHY], USAGE_ERROR, "--force replays at once"),
        (["dead", "replay", "--all", "--dry-run", "--force"], USAGE_ERROR, "--dry-run does not look at what"),
        (["dead", "replay", 4711, "--canary", 1, *WHY], FAILED, "nothing is to be replayed"),
        (["dead", "replay", "--canary", 1, *WHY], USAGE_ERROR, "name messages by number"),
        (["dead", "replay", "--all", "--canary", 1], USAGE_ERROR, "--why is empty"),
        (["replays", "stop", 4711, *WHY], FAILED, "there is no replay run 4711"),
        (["replays", "show", 4711], FAILED, "there is no replay run 4711"),
        (["replays", "stop", 4711], USAGE_ERROR, "--why"),
        (["dead", "edit", 4711, "--file", "/nowhere.xml", *WHY], USAGE_ERROR, "cannot be read"),
        (["dead", "edit", 4711, "--json", *WHY], USAGE_ERROR, "say --yes"),
        (["dead", "edit", 4711, *WHY], FAILED, "there is no message 4711"),
    ],
)
def test_a_command_that_cannot_be_carried_out_says_why(
    shell: Shell, words: list[object], status: int, text: str
) -> None:
    ran = shell.any(*words)
    assert (ran.status, ran.out, ran.err.count("\n")) == (status, "", 1)
    assert text in ran.err


# Edit and replay


def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Have a script be the editor; return where it notes the file that it was given, and its mode."""
    program, noted = tmp_path / "an editor.py", tmp_path / "noted"
    program.write_text(
        "import os, pathlib, sys\nfile = pathlib.Path(sys.argv[1])\n"
        f"pathlib.Path({str(noted)!r}).open('a').write(f'{{file}} {{file.stat().st_mode:o}}\\n')\n{script}\n"
    )
    monkeypatch.setenv("EDITOR", f"{sys.executable} '{program}'")
    return noted


def test_a_document_is_mended_in_an_editor_on_a_file_that_is_private_and_gone_then(
    shell: Shell, engine: Engine, dead: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = "file.write_text(file.read_text().replace('SKU-1', 'SKU-2'))"
    noted = editor(tmp_path, monkeypatch, change)
    ran = shell.good("dead", "edit", dead[0], "--yes", *WHY)
    assert "-orderLine.1.product.externalReference=SKU-1" in ran.out
    assert "+orderLine.1.product.externalReference=SKU-2" in ran.out
    assert f"message {dead[0]} is replayed as message 13, edited" in ran.out
    file, mode = noted.read_text().split()
    assert (Path(file).exists(), Path(file).parent.exists()) == (False, False)
    assert stat.S_IMODE(int(mode, 8)) == 0o600
    assert row(engine, 13)["edited"]
    assert "+orderLine.1.product.externalReference=SKU-2" in shell.good("show", 13, "--payload").out
    assert "SKU-2" not in shell.good("show", dead[0]).out, "a document is shown to who asks for it"


def test_an_edit_is_asked_for_first(
    shell: Shell, engine: Engine, dead: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "new.xml"
    file.write_text(order("SO-0", sku="SKU-2"))
    for answer, replays in (("n\n", 0), ("y\n", 1)):
        read, write = os.pipe()
        os.write(write, answer.encode())
        os.close(write)
        with os.fdopen(read) as given:
            monkeypatch.setattr(sys, "stdin", given)
            ran = shell.any("dead", "edit", dead[0], "--file", file, *WHY)
        assert (ran.status == 0, len(rows(engine, edit))) == (bool(replays), replays)
        assert "+orderLine.1.product.externalReference=SKU-2" in ran.out


def test_an_edit_is_told_to_machines(shell: Shell, dead: list[int], tmp_path: Path) -> None:
    file = tmp_path / "new.xml"
    file.write_text(order("SO-0", sku="SKU-2"))
    told = shell.good("dead", "edit", dead[0], "--file", file, "--yes", *WHY, "--json").json
    assert (told["message"], told["replay"]) == (dead[0], 13)
    assert "SKU-2" in told["difference"]
    again = shell.any("dead", "edit", dead[0], "--file", file, "--yes", *WHY)
    assert (again.status, again.err) == (
        FAILED,
        f"message {dead[0]} was replayed before, as message 13, which is pending\n",
    )


def test_what_an_editor_leaves_unmended_is_refused_and_offered_again(
    shell: Shell, engine: Engine, dead: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = editor(tmp_path, monkeypatch, "file.write_text(file.read_text()[:-5])")
    read, write = os.pipe()
    os.write(write, b"y\nn\n")
    os.close(write)
    with os.fdopen(read) as given:
        monkeypatch.setattr(sys, "stdin", given)
        ran = shell.any("dead", "edit", dead[0], *WHY)
    assert (ran.status, noted.read_text().count("\n")) == (FAILED, 2)
    assert "make it well-formed XML" in ran.err
    assert rows(engine, edit) == []


@pytest.mark.parametrize(
    ("script", "text"), [("sys.exit(3)", "ended with status 3"), ("", "is unchanged: dead replay sends it")]
)
def test_an_editor_that_fails_or_changes_nothing_replays_nothing(
    shell: Shell,
    engine: Engine,
    dead: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    text: str,
) -> None:
    editor(tmp_path, monkeypatch, script)
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        ran = shell.any("dead", "edit", dead[0], *WHY)
    assert ran.status != 0
    assert text in ran.err
    assert len(rows(engine, message)) == 12


def test_without_an_editor_it_is_said_how_to_go_on(
    shell: Shell, dead: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDITOR", raising=False)
    monkeypatch.delenv("VISUAL", raising=False)
    assert "set EDITOR, or give the document with --file" in shell.any("dead", "edit", dead[0], *WHY).err
    monkeypatch.setenv("VISUAL", "/nowhere/vi")
    assert "cannot be started" in shell.any("dead", "edit", dead[0], *WHY).err
