"""Hooks: real mail, real webhooks, real functions and programs, whatever becomes of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from config import Hook
from config.values import SecretSource
from tests.desks import Desk, Mailbox, Webhook
from tests.rig import eventually
from worker.hooks import running
from worker.hooks.running import Job, name_of, tell_all
from worker.telling import body_of, title_of, trial_document

SECRET = "s3cret-Pa55word"
LIMIT = timedelta(seconds=10)
SECOND = timedelta(seconds=1)
linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at by /proc")
DOCUMENT = trial_document(datetime(2026, 11, 1, 9, 30, tzinfo=UTC))


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook.listening() as server:
        yield server


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with Mailbox.open() as open_mailbox:
        yield open_mailbox


def told(*hooks: Hook, limit: timedelta = LIMIT, document: dict[str, Any] = DOCUMENT) -> list[str | None]:
    return tell_all([Job(hook, document, title_of(document), body_of(document)) for hook in hooks], limit)


def module(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (folder / "our_alerts.py").write_text(text)
    monkeypatch.syspath_prepend(folder)


def test_an_alert_arrives_as_mail(mailbox: Mailbox) -> None:
    document = {
        **DOCUMENT,
        "severity": "error",
        "cause": "dead-letters",
        "destination": "main",
        "operation": "order-import",
        "reason": "http_500",
        "text": "3 dead letters, no <b>markup</b>: Gärtnerei",
        "keys": ["order:SO-1", "order:SO-2"],
        "sample_message": 7,
        "sample_reply": {"status": 500, "text": "sold out"},
    }
    assert told(Hook(apprise=SecretStr(mailbox.address)), document=document) == [None]
    (mail,) = mailbox.mails
    assert mail["Subject"] == "[error] dead-letters opened: main order-import http_500"
    assert (mail["To"], mail["From"]) == ("desk@shop.test", "outbox@shop.test")
    text = mail.get_content()
    assert "3 dead letters, no <b>markup</b>: Gärtnerei" in text
    assert "Keys, among others: order:SO-1, order:SO-2" in text
    assert "Answered to message 7: HTTP 500 sold out" in text
    assert "python -m worker incidents ack" in text


def test_a_webhook_gets_the_document_as_json(webhook: Webhook) -> None:
    assert told(webhook.hook) == [None]
    assert webhook.got == [("/desk?token=hush", "application/json", DOCUMENT)]


def test_a_function_is_called_with_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = tmp_path / "written.json"
    module(
        tmp_path,
        monkeypatch,
        f"import json, pathlib\n"
        f"def on_alert(alert):\n"
        f"    print('what it prints goes nowhere')\n"
        f"    pathlib.Path({str(written)!r}).write_text(json.dumps(alert))\n",
    )
    assert told(Hook(python="our_alerts:on_alert")) == [None]
    assert json.loads(written.read_text()) == DOCUMENT


@pytest.mark.parametrize("kind", ["env", "file"])
def test_an_address_is_read_where_it_is_kept(
    webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    address = f"http://127.0.0.1:{webhook.server_port}/{SECRET}"
    monkeypatch.setenv("ALERT_ADDRESS", address)
    (tmp_path / "address").write_text(f"{address}\n")
    place = SecretSource(env="ALERT_ADDRESS") if kind == "env" else SecretSource(file=tmp_path / "address")
    assert told(Hook(webhook=place)) == [None]
    assert webhook.got[0][0] == f"/{SECRET}"


@pytest.mark.parametrize("given", [None, "/somewhere/else"])
def test_a_command_has_the_environment_of_the_service_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if given is not None:
        monkeypatch.setenv("PYTHONPATH", given)
    written = tmp_path / "environment"
    command = ["/bin/sh", "-c", f"env > {written}"]
    assert told(Hook(command=command)) == [None]
    lines = written.read_text().splitlines()
    assert [line for line in lines if "PYTHONPATH" in line] == [f"PYTHONPATH={given or ''}"]


@linux
def test_a_command_is_ended_by_a_broken_pipe_as_any_other(tmp_path: Path) -> None:
    written = tmp_path / "status"
    assert told(Hook(command=["/bin/sh", "-c", f"cat /proc/self/status > {written}"])) == [None]
    (ignored,) = [line.split()[1] for line in written.read_text().splitlines() if "SigIgn" in line]
    assert not int(ignored, 16) & 1 << (signal.SIGPIPE - 1)


UNREACHABLE = "127.0.0.1:1"
MAIL = f"mailto://u:{SECRET}@{UNREACHABLE}/?to=desk@shop.test"


@pytest.mark.parametrize(
    ("hook", "error"),
    [
        (Hook(webhook=SecretStr(f"http://{UNREACHABLE}/{SECRET}")), "webhook: ConnectionRefusedError"),
        (Hook(webhook=SecretSource(env="NOWHERE")), "environment variable NOWHERE: put it there"),
        (Hook(webhook=SecretSource(env="PLAIN")), "webhook: its address cannot be used: use https"),
        (Hook(apprise=SecretStr(f"{MAIL}&from=a@shop.test")), "apprise: Connection error"),
        (Hook(apprise=SecretStr(MAIL)), "apprise cannot use this address: Could not load E-Mail URL: *"),
        (Hook(apprise=SecretStr(f"nosuchservice://{SECRET}")), "apprise cannot use this address: Unpars"),
        (Hook(python="no.such_module:function"), "cannot be had: ModuleNotFoundError"),
        (Hook(python="our_alerts:nothing"), "cannot be had: AttributeError"),
        (Hook(python="our_alerts:raising"), "python our_alerts:raising raised ValueError"),
        (Hook(python="our_alerts:leaving"), "python our_alerts:leaving ended with status 4"),
        (Hook(python="our_alerts:exiting"), "python our_alerts:exiting raised SystemExit"),
        (Hook(python="our_alerts:later"), "our_alerts:later is an async function, which nobody awaits"),
        (Hook(command=["/nowhere/page-someone"]), "could not be started: No such file"),
        (Hook(command=[sys.executable, "-S", "-c", "raise SystemExit(3)"]), "ended with status 3"),
        (
            Hook(command=[sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 9)"]),
            "was ended by signal 9",
        ),
    ],
)
def test_a_hook_that_fails_says_why_and_tells_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: Hook, error: str
) -> None:
    monkeypatch.setenv("PLAIN", f"http://hooks.example.com/{SECRET}")
    module(
        tmp_path,
        monkeypatch,
        "import os\n"
        f"def raising(alert): print({SECRET!r}, flush=True); raise ValueError({SECRET!r})\n"
        "def leaving(alert): os._exit(4)\n"
        "def exiting(alert): raise SystemExit(0)\n"
        "async def later(alert): pass\n",
    )
    (said,) = told(hook)
    assert said is not None
    assert error in said
    assert SECRET not in said
    assert "@" not in said, "an address, even one that is shortened"
    assert "\n" not in said


def test_a_redirect_is_no_answer(webhook: Webhook) -> None:
    webhook.status = 302
    assert told(webhook.hook) == ["webhook answered HTTP 302"]
    assert len(webhook.got) == 1


def test_a_word_of_an_address_is_masked_in_what_apprise_says(mailbox: Mailbox) -> None:
    """Given a user and a host that a mail server's refusal would name."""
    mailbox_that_asks_for_no_password = mailbox.address.replace("mailto://", f"mailto://{SECRET}:{SECRET}@")
    (said,) = told(Hook(apprise=SecretStr(mailbox_that_asks_for_no_password)))
    assert said is not None
    assert said.startswith("apprise: ")
    assert SECRET not in said
    assert "127.0.0.1" not in said


def hook_processes() -> list[Path]:
    """Return the processes of hooks that this process has started, as the system lists them."""
    processes = [
        Path("/proc") / number
        for task in Path("/proc/self/task").iterdir()
        for number in listed(task / "children").decode().split()
    ]
    return [each for each in processes if b"worker.hooks" in listed(each / "cmdline")]


def listed(file: Path) -> bytes:
    """Return what the system lists of a thread or process; nothing once it is gone."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


@linux
def test_nothing_secret_is_in_the_arguments_or_the_environment_of_a_hook(webhook: Webhook) -> None:
    webhook.answering.clear()
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(told(webhook.hook)))
    thread.start()
    eventually(lambda: webhook.got)
    (process,) = hook_processes()
    seen = listed(process / "cmdline") + listed(process / "environ")
    webhook.answering.set()
    thread.join()
    assert answers == [[None]]
    assert b"worker.hooks" in seen
    assert b"hush" not in seen


@linux
def test_a_hook_that_is_killed_is_told_of_and_the_others_are_not_disturbed(
    webhook: Webhook, tmp_path: Path
) -> None:
    desk = Desk(tmp_path)
    webhook.answering.clear()
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.extend(told(webhook.hook, desk.hook)))
    thread.start()
    eventually(lambda: webhook.got and desk.told)
    eventually(lambda: len(hook_processes()) == 1)
    (process,) = hook_processes()
    os.kill(int(process.name), signal.SIGKILL)
    thread.join()
    assert answers == ["webhook was ended by signal 9 (Killed)", None]
    assert len(desk.told) == 1


def test_a_hook_that_hangs_is_killed_with_all_it_started(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers"
    hang = (
        "import os, pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(numbers)!r}).write_text(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(60)\n"
    )
    assert told(Hook(command=[sys.executable, "-S", "-c", hang]), limit=timedelta(seconds=1)) == [
        f"command {sys.executable} took longer than 1 s"
    ]
    for number in numbers.read_text().split():
        eventually(lambda number=number: not is_running(int(number)), 5)


def is_running(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_hooks_are_told_at_the_same_time(tmp_path: Path, webhook: Webhook) -> None:
    desk = Desk(tmp_path)
    hang = Hook(command=[sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    webhook.answering.clear()
    begun = time.monotonic()
    answers = told(hang, webhook.hook, hang, desk.hook, limit=timedelta(seconds=1))
    assert time.monotonic() - begun < 2, "three limits of a second would take three"
    assert answers[3] is None
    assert all("took longer than 1 s" in str(each) for each in answers[:3])


def test_whatever_keeps_one_hook_from_running_keeps_no_other_from_the_alert(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    bad = Hook.model_construct(command=["/bin/sh", "-c", "\0"])
    assert told(bad, desk.hook) == ["command /bin/sh could not be run: ValueError", None]
    assert len(desk.told) == 1


def test_a_hook_whose_process_cannot_be_waited_for_is_killed() -> None:
    hang = Hook(command=["/bin/sleep", "60"])
    assert told(hang, limit=timedelta(days=30)) == ["command /bin/sleep could not be run: OverflowError"]


def test_a_hook_that_no_process_can_be_had_for_is_an_error_in_words(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert told(webhook.hook) == ["webhook could not be run: No such file or directory"]


def test_few_hooks_run_at_once_however_many_are_to_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "MAX_AT_ONCE", 2)
    peak = tmp_path / "peak"
    mine = f"{tmp_path}/at-$$"
    count = f"mkdir {mine}; ls {tmp_path} | grep -c at- >> {peak}; sleep 0.2; rmdir {mine}"
    assert told(*4 * [Hook(command=["/bin/sh", "-c", count])]) == 4 * [None]
    assert {int(line) for line in peak.read_text().split()} <= {1, 2}
    assert running.longest(5, SECOND) == 3 * SECOND


@linux
def test_a_hook_ends_with_the_process_that_started_it(webhook: Webhook, tmp_path: Path) -> None:
    webhook.answering.clear()
    tell = (
        "import sys; from config import Hook; from worker.hooks.running import Job, tell_all\n"
        "from datetime import timedelta\n"
        "tell_all([Job(Hook(webhook=sys.argv[1]), {'kind': 'opened'}, '', '')], timedelta(seconds=60))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", tell, f"http://127.0.0.1:{webhook.server_port}/"]
    sender = subprocess.Popen(command, env=environment)
    eventually(lambda: webhook.got)
    children = [
        int(number)
        for task in Path(f"/proc/{sender.pid}/task").iterdir()
        for number in (task / "children").read_text().split()
    ]
    sender.kill()
    sender.wait()
    assert children
    for number in children:
        eventually(lambda number=number: not is_running(number), 5)


def test_a_hook_is_remembered_by_what_it_is_and_by_nothing_that_can_be_read() -> None:
    one = Hook(webhook=SecretStr(f"https://h/{SECRET}"))
    others = [
        Hook(webhook=SecretStr("https://h/")),
        Hook(apprise=SecretStr(f"https://h/{SECRET}")),
        Hook(webhook=SecretStr(f"https://h/{SECRET}"), destinations=["main"]),
        Hook(webhook=SecretSource(env="HOOK")),
        Hook(command=["https://h/"]),
    ]
    assert len({name_of(each) for each in (one, *others)}) == 1 + len(others)
    assert name_of(one) == name_of(Hook(webhook=SecretStr(f"https://h/{SECRET}")))
    assert SECRET not in name_of(one)
