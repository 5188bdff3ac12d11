"""`incidents`, `incidents ack` and `alerts test`, as an administrator gives them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from orderflow_outbox.tables import audit, incident
from tests.desks import Desk, Webhook
from tests.shell import Shell
from tests.steps import Clock, bury, finish, put, rows, why
from worker.by_hand import discard
from worker.store import watching
from worker.store.causes import AlertTimes
from worker.store.transactions import Store
from worker.store.watching import Cause, Trouble
from worker.verdicts import Refused


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], engine: Engine) -> Shell:
    return Shell(capsys)


@pytest.fixture
def store(engine: Engine) -> Store:
    return Store(engine, Clock())


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook.listening() as server:
        yield server


def test_open_incidents_are_listed_with_what_to_do_about_them(
    shell: Shell, engine: Engine, store: Store
) -> None:
    settled = bury(store, engine, reason="http_400")
    for _ in range(2):
        put(engine)
        finish(store, Refused(why("items_failed", "no \x1b[31msuch\x1b[0m article")))
    discard(store, settled, "ann", "a test order")
    out = shell.good("incidents").out
    (line,) = [each for each in out.splitlines() if "dead-letters" in each]
    for part in ("2", "error", "main", "order-import", "items_failed", "not yet", "no ·[31msuch·[0m article"):
        assert part in line
    (told,) = shell.good("incidents", "--json").json
    assert (told["severity"], told["cause"], told["occurrences"]) == ("error", "dead-letters", 2)
    assert told["acknowledged_by"] is None


def test_without_an_incident_the_list_says_so(shell: Shell) -> None:
    assert shell.good("incidents").out == "no incident is open\n"
    assert shell.good("incidents", "--json").json == []


def test_who_acknowledges_is_kept_with_why(shell: Shell, engine: Engine, store: Store) -> None:
    bury(store, engine)
    said = shell.good("incidents", "ack", 1, "--by", "ann", "--why", "the supplier is called").out
    assert said == "incident 1 is acknowledged by ann\n"
    (row,) = rows(engine, incident)
    assert (row["acknowledged_by"], row["acknowledged_occurrences"]) == ("ann", 1)
    (noted,) = rows(engine, audit)
    assert (noted["verb"], noted["by"], noted["why"]) == ("acknowledge", "ann", "the supplier is called")
    assert (noted["destination"], noted["detail"]) == ("main", {"incident": 1, "occurrences": 1})
    assert "ann" in shell.good("incidents").out


def test_an_incident_of_no_destination_is_acknowledged_as_any_other(
    shell: Shell, engine: Engine, store: Store
) -> None:
    with store.writing() as transaction:
        trouble = Trouble(Cause("engines-silent", "", "", "engines_silent"), "2 min ago", transaction.now)
        watching.open_trouble(transaction, trouble, AlertTimes(*2 * [transaction.now - transaction.now]))
    told = {"incident": 1, "acknowledged_by": "ann"}
    assert shell.good("incidents", "ack", 1, "--by", "ann", "--why", "a move", "--json").json == told
    assert rows(engine, audit)[0]["destination"] is None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("7", "--why", "known"), "incident 7 is not open: python -m worker incidents lists those that are"),
        (("1", "--why", "known"), "incident 1 is not open: python -m worker incidents lists those that are"),
        (("1", "--why", " "), "--why is empty: say why; it is kept with the message"),
    ],
)
def test_what_cannot_be_acknowledged_is_said_in_one_line(
    shell: Shell, engine: Engine, store: Store, arguments: tuple[str, ...], error: str
) -> None:
    discard(store, bury(store, engine), "ann", "a test order")
    failed = shell.any("incidents", "ack", *arguments)
    assert failed.status != 0
    assert failed.err == f"{error}\n"
    assert [each["verb"] for each in rows(engine, audit)] == ["discard"]


def test_hooks_are_tried_and_each_says_whether_it_took_the_alert(
    shell: Shell, tmp_path: Path, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path)
    address = f"http://127.0.0.1:{webhook.server_port}/?token=hush"
    hooks = [{"webhook": address, "severities": ["critical"]}, {"command": desk.hook.command}]
    monkeypatch.setenv("OUTBOX_ALERTS__HOOKS", json.dumps(hooks))
    out = shell.good("alerts", "test").out
    assert out == f"hook 0, webhook: took it\nhook 1, command {desk.hook.command[0]}: took it\n"
    assert [each["cause"] for each in desk.told] == ["test"]
    assert [document["text"] for _, _, document in webhook.got] == ["This is a test, nothing has happened"]
    webhook.status = 503
    failed = shell.any("alerts", "test")
    assert failed.status == 1
    assert "hook 0, webhook: failed: webhook answered HTTP 503\n" in failed.out
    assert "hush" not in failed.out + failed.err
    assert len(desk.told) == 2
    told = shell.any("alerts", "test", "--json").json
    assert [(each["hook"], each["kind"], each["error"]) for each in told] == [
        (0, "webhook", "webhook answered HTTP 503"),
        (1, "command", None),
    ]


def test_without_a_hook_the_trial_says_where_alerts_go(shell: Shell) -> None:
    assert shell.good("alerts", "test").out == "no hook is configured: alerts are lines in the worker's log\n"
