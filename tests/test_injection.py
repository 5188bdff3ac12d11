"""What a receiver answers or a shop writes is text: it runs nothing, no line of a log, moves no cursor."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import pytest
from rich.console import Console

from config import Hook
from tests.databases import on_sqlite
from tests.desks import Desk, Webhook
from tests.rig import Place, Rig, engine_of, eventually, rig
from tests.shell import Shell
from tests.test_hooks import DOCUMENT, told
from worker.commands import output
from worker.rules.words import in_one_line
from worker.switch import LoggedSwitch

FORGED = "ERROR forged"
CONTROLS = (
    "\x1b]0;owned\x07\x1b[2J\x9b31m\r\n" + FORGED + "\u2028" + FORGED + "\x85" + FORGED + "\u202edellaf"
)
KEY = "order:$(touch x)"
CONTROL_CHARACTERS = {chr(n) for n in (*range(32), *range(127, 160), 0x2028, 0x2029, 0x202E)}


def commands(touched: Path) -> list[str]:
    """Return words that a shell would make a file of, however it came to read them."""
    touch = f"touch {touched}"
    return [
        f"$({touch})",
        f"`{touch}`",
        f"; {touch};",
        f"| {touch}",
        f"& {touch} &",
        f"'; {touch}; '",
        f"\n{touch}\n",
    ]


class _Answering(StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        length = 0
        while line := self.rfile.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split()[1])
        self.rfile.read(length)
        self.wfile.write(self.server.answer)


class _Server(ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, answer: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.answer = answer


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    with _Server(answer) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/web"
        server.shutdown()


def reply(body: str, kind: str) -> bytes:
    """Return an answer whose reason and headers hold what they can of it, too."""
    head = (
        f"HTTP/1.1 200 O\x1b[2JK\r\nContent-Type: {kind}\r\n"
        f"X-Evil: \x1b[2J\x9b31m{FORGED}\x85{FORGED}\u2028\r\n"
        f"Content-Length: {len(body.encode())}\r\n\r\n"
    )
    return (head + body).encode()


def page(text: str) -> bytes:
    return reply(f"<html><body><h2>ERROR</h2><p>{_in_xml(text)}</p></body></html>", "text/html")


def report(text: str) -> bytes:
    """Return a report on an item that was rejected."""
    item = f'<import externalReference="SO-1"><failureMessage>{_in_xml(text)}</failureMessage></import>'
    return reply(f"<importResult><importFailures>{item}</importFailures></importResult>", "text/xml")


def raw(text: str) -> bytes:
    """Return an answer that nobody understands; it is kept all the same."""
    return reply(text, "text/plain")


def _in_xml(text: str) -> str:
    """Return what XML can hold of a text."""
    held = "".join(c for c in text if c in "\r\n" or c >= " ")
    return held.replace("&", "&amp;").replace("\r", "&#13;")


@contextmanager
def shop(place: Place, answer: bytes, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A shop whose order died of an answer, and whose desk was told."""
    with answering(answer) as url, rig(place, retry_after=[]) as made:
        file = made.folder / "destinations.toml"
        file.write_text(file.read_text().replace(made.simulator.url, url))
        hooks = f"hooks = [{{ command = {json.dumps(desk.hook.command)} }}]"
        made.file.write_text(made.file.read_text().replace("hooks = []", hooks))
        monkeypatch.setenv("OUTBOX_CONFIG", str(made.file))
        monkeypatch.delenv("OUTBOX_DATABASE_URL")
        made.order("SO-1", key=KEY)
        with engine_of(made):
            eventually(lambda: made.states() == {"dead"})
            eventually(lambda: desk.text)
        yield made


def test_what_an_alert_says_is_run_by_no_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touched, desk = tmp_path / "touched", Desk(tmp_path)
    for words in commands(touched):
        document = {
            **DOCUMENT,
            **dict.fromkeys(
                ("text", "sample_text", "sample_key", "destination", "operation", "reason"), words
            ),
            "keys": [words],
            "sample_reply": {"status": 500, "text": words},
        }
        with Webhook.listening() as webhook:
            assert told(desk.hook, webhook.hook, document=document) == [None, None]
        assert desk.told[-1] == document, "it comes by standard input, as it is"
    assert not touched.exists()
    assert [each.name for each in tmp_path.iterdir()] == ["alerts.jsonl"]


def test_a_word_of_a_command_is_read_by_no_shell(tmp_path: Path) -> None:
    touched, written = tmp_path / "touched", tmp_path / "words"
    for words in commands(touched):
        keep = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
        assert told(Hook(command=[sys.executable, "-S", "-c", keep, str(written), words])) == [None]
        assert written.read_text() == words
    assert not touched.exists()


def test_a_hook_that_cannot_be_used_is_told_of_on_one_line_without_control_characters(tmp_path: Path) -> None:
    hooks = [
        Hook(command=[f"{tmp_path}/{CONTROLS}"]),
        Hook(python=f"no_module_{FORGED.split()[1]}:function"),
    ]
    errors = told(*hooks)
    assert all(errors)
    assert not set("".join(map(str, errors))) & CONTROL_CHARACTERS


@on_sqlite
@pytest.mark.parametrize("answer", [page, report])
def test_an_answer_makes_no_line_of_its_own_in_a_log(
    place: Place, answer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with shop(place, answer(CONTROLS), Desk(place.folder), monkeypatch):
        eventually(lambda: "ALERT" in caplog.text)
    said = [record.getMessage() for record in caplog.records]
    assert any("forged" in each for each in said)
    assert [each for each in said if set(each) & CONTROL_CHARACTERS] == []
    assert [each for each in said if each.startswith(FORGED)] == []


@on_sqlite
@pytest.mark.parametrize("answer", [pytest.param(page, marks=pytest.mark.soak), report])
def test_an_answer_is_run_by_nobody(place: Place, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    touched, desk = place.folder / "touched", Desk(place.folder)
    with shop(place, answer(" ".join(commands(touched))), desk, monkeypatch):
        assert f"$(touch {touched})"[:40] in desk.told[0]["text"]
        assert desk.told[0]["keys"] == [KEY]
    assert not touched.exists()
    assert not (place.folder / "x").exists()


@on_sqlite
@pytest.mark.parametrize("answer", [pytest.param(page, marks=pytest.mark.soak), report, raw])
def test_an_answer_moves_no_cursor_and_adds_no_line_to_what_a_command_prints(
    place: Place, answer: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(capsys)
    with shop(place, answer(CONTROLS), Desk(place.folder), monkeypatch):
        for arguments in (
            ("show", 1),
            ("dead", "list"),
            ("incidents",),
            ("status",),
            ("rules", "replay", "--since", "2020-01-01T00:00"),
            ("query", "inventory", "--organisation", "acme", "--json"),
            ("show", 1, "--payload", "--json"),
            ("dead", "list", "--json"),
            ("incidents", "--json"),
        ):
            ran = shell.any(*arguments)
            told = ran.out + ran.err
            assert told, arguments
            assert not set(told) & (CONTROL_CHARACTERS - {"\n"}), arguments
            assert [line for line in told.splitlines() if line.startswith(FORGED)] == [], arguments


@on_sqlite
def test_an_answer_that_is_printed_whole_moves_no_cursor_of_a_terminal(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Console(highlight=False, soft_wrap=True, force_terminal=True, no_color=True)
    monkeypatch.setattr(output, "console", terminal)
    with shop(place, raw(CONTROLS), Desk(place.folder), monkeypatch):
        for arguments in (("query", "inventory", "--organisation", "acme"), ("show", 1, "--payload")):
            ran = Shell(capsys).any(*arguments)
            assert "forged" in ran.out
            assert not {"\x1b]", "\x1b[2J", "\x07", "\x9b", "\u2028", "\u202e"} & _pieces(ran.out + ran.err)


def _pieces(text: str) -> set[str]:
    return {text[at : at + size] for at in range(len(text)) for size in (1, 2, 4)}


def test_an_error_of_a_command_holds_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ((CONTROLS,), ("show", CONTROLS), ("config", "check", f"/nowhere/{CONTROLS}.toml")):
        ran = Shell(capsys).any(*arguments)
        assert ran.status
        assert not set(ran.err) & (CONTROL_CHARACTERS - {"\n"}), arguments


def test_what_a_broker_says_is_one_line_of_a_log(caplog: pytest.LogCaptureFixture) -> None:
    LoggedSwitch(logging.getLogger("a"), "on", "off").off(ConnectionError(CONTROLS))
    (record,) = caplog.records
    assert record.getMessage().startswith("off: ConnectionError: ]0;owned")
    assert not set(record.getMessage()) & CONTROL_CHARACTERS


def test_a_reason_is_one_line_that_reads_as_it_is_written() -> None:
    told = in_one_line(CONTROLS)
    assert told == f"]0;owned [2J 31m {FORGED} {FORGED} {FORGED} dellaf"
