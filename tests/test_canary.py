"""A destination's password, pushed through every way to fail, is kept and told by nobody in any form."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from sqlalchemy import select

from orderflow_outbox import enqueue
from orderflow_outbox.tables import incident, message
from tests.brokers import free_port
from tests.canary import (
    ANSWERS,
    CANARY,
    USER,
    decoded,
    found_in,
    kept_by_broker,
    monitored,
    receivers,
    stored,
)
from tests.databases import on_sqlite
from tests.desks import Webhook
from tests.documents import order
from tests.rig import Place, Rig, engine_of, eventually, rig
from tests.shell import Shell
from tests.test_flower import get, up
from worker.broker import broker_url
from worker.deliveries import Reply
from worker.gate import REFUSALS_BEFORE_HOLD
from worker.masking import MASKED
from worker.rules import Judge

HELD = {"unauthorized", "forbidden", "redirect", "certificate"}
"""Who is turned away waits: the destination is held, and a person called."""


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def configure(made: Rig, urls: dict[str, str], webhook: Webhook) -> None:
    """Give a rig a destination for each way to fail, all with the same password, and two desks."""
    (made.folder / "secret").write_text(CANARY)
    file = made.folder / "destinations.toml"
    one = file.read_text().replace(
        '{ env = "ORDERFLOW_MAIN_PASSWORD" }', f'{{ file = "{made.folder}/secret" }}'
    )
    file.write_text(
        "\n".join(
            one.replace("destinations.main", f"destinations.{kind}").replace(made.simulator.url, url)
            for kind, url in urls.items()
        )
    )
    command = ["/bin/sh", "-c", f"cat >> {made.folder}/hook.jsonl; echo >> {made.folder}/hook.jsonl"]
    hooks = f'hooks = [{{ command = {json.dumps(command)} }}, {{ webhook = "{webhook_address(webhook)}" }}]'
    made.file.write_text(made.file.read_text().replace("hooks = []", hooks))


def webhook_address(webhook: Webhook) -> str:
    return f"http://127.0.0.1:{webhook.server_port}/desk"


def enqueue_to_each(made: Rig, kinds: set[str]) -> dict[str, int]:
    """Enqueue an order for each kind, several for those that turn all away; return one of each."""
    with made.engine.begin() as connection:
        return {
            kind: enqueue(
                connection,
                "order-import",
                order("SO-1"),
                destination=kind,
                channel="web",
                key=f"order:{kind}-{n}",
            ).id
            for kind in sorted(kinds)
            for n in range(REFUSALS_BEFORE_HOLD if kind in HELD else 1)
        }


def is_over(made: Rig, ids: dict[str, int]) -> bool:
    """Tell whether every message is dead, but for those of destinations that are held."""
    with made.engine.connect() as connection:
        rows = connection.execute(select(message.c.destination, message.c.state)).all()
        told = connection.scalars(select(incident.c.destination).where(incident.c.last_alert_at.is_not(None)))
        over = all(state == "dead" for kind, state in rows if kind not in HELD)
        return over and ids.keys() <= set(told)


def flower_password(made: Rig) -> str:
    file = made.folder / "state" / "flower-password"
    return file.read_text().strip() if file.exists() else ""


def said_by_commands(shell: Shell, ids: dict[str, int]) -> dict[str, str]:
    """Return what each command says that tells of messages, in words and in JSON."""
    commands: list[tuple[object, ...]] = [
        ("dead", "list"),
        ("incidents",),
        ("alerts", "test"),
        ("status",),
        ("config", "check"),
        ("rules", "replay", "--since", "2020-01-01T00:00"),
        *(("show", number) for number in ids.values()),
        *(("show", number, "--payload") for number in ids.values()),
        *(("query", "inventory", "--organisation", "acme", "--destination", kind) for kind in ids),
        ("dead", "replay", "--all", "--why", "again"),
    ]
    told = {}
    for command in commands:
        for options in ((), ("--json",)):
            ran = shell.any(*command, *options)
            told[" ".join(map(str, (*command, *options)))] = ran.out + ran.err
    return told


@on_sqlite
@pytest.mark.timeout(180)
def test_a_password_is_found_nowhere_whatever_becomes_of_its_messages(
    place: Place, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with (
        receivers() as (urls, asked),
        Webhook.listening() as webhook,
        rig(place, retry_after=[], attempt_deadline="500ms", flower_port=port) as made,
    ):
        configure(made, urls, webhook)
        ids = enqueue_to_each(made, set(urls))
        with up(made):
            path = Path(unquote(broker_url(made.folder / "state").partition("://")[2]))
            eventually(path.exists)
            with monitored(path) as passed:
                login = f"admin:{eventually(lambda: flower_password(made))}"
                eventually(lambda: get(f"http://127.0.0.1:{port}/api/workers", login)[0] == 200)
                eventually(lambda: is_over(made, ids), 60, "every message dead and told")
                monkeypatch.setenv("OUTBOX_CONFIG", str(made.file))
                monkeypatch.delenv("OUTBOX_DATABASE_URL")
                monkeypatch.delenv("OUTBOX_STATE_DIR")
                said = said_by_commands(shell, ids)
                eventually(lambda: is_over(made, ids), 60, "every message replayed and dead")
                flower = get(f"http://127.0.0.1:{port}/api/tasks?limit=500", login)[1].decode()
                kept = kept_by_broker(path)
        logs = {str(file): file.read_text(errors="replace") for file in made.folder.rglob("*.log")}
        hooks = {
            "command hook": (made.folder / "hook.jsonl").read_text(),
            "webhook": json.dumps(webhook.got),
        }
        rows = stored(made.engine)
        where = {**rows, **logs, **hooks, **said, **kept, "Flower": flower}
        where["what passed the broker"] = b"".join(passed).decode("utf-8", "replace")
        assert asked == set(ANSWERS), "each was sent the password"
    assert found_in(where) == []
    assert MASKED in rows["outbox_attempt.reply_body"]
    assert MASKED in rows["outbox_attempt.reply_headers"]
    assert all("message" in text for text in (hooks["command hook"], hooks["webhook"], flower))
    assert "task-failed" in decoded(where["what passed the broker"])


@pytest.mark.parametrize(
    "line",
    [
        f"password = {json.dumps(CANARY)}",
        f"password = {{ value = {json.dumps(CANARY)} }}",
        f"password = {json.dumps(CANARY)[:-1]}",
        f'password = {{ env = "MISSING" }}\nurl = "https://{USER}:{quote(CANARY, safe="")}@127.0.0.1/web"',
    ],
    ids=["written in place of its place", "under a key nobody knows", "with no end", "in the address"],
)
def test_a_password_in_the_wrong_place_is_refused_and_not_quoted(
    tmp_path: Path, shell: Shell, line: str
) -> None:
    (tmp_path / "destinations.toml").write_text(f"[destinations.main]\nuser = '{USER}'\n{line}\n")
    (tmp_path / "outbox.toml").write_text("")
    for options in ((), ("--json",)):
        ran = shell.any("config", "check", tmp_path / "outbox.toml", *options)
        assert (ran.status, bool(ran.err)) == (1, True)
        assert found_in({"said": ran.out + ran.err}) == []


def test_an_error_of_judging_is_logged_without_what_it_says_of_the_reply(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stumble(_: Judge, reply: Reply, *__: object) -> None:
        raise ValueError(reply.body.decode())

    monkeypatch.setattr(Judge, "judge", stumble)
    with receivers() as (urls, _), Webhook.listening() as webhook, rig(place, retry_after=[]) as made:
        configure(made, {"page": urls["page"]}, webhook)
        enqueue_to_each(made, {"page"})
        with engine_of(made):
            eventually(lambda: made.states() == {"dead"})
            eventually(lambda: "ALERT" in caplog.text)
        rows = stored(made.engine)
    assert "ValueError" in caplog.text
    assert "in stumble" in caplog.text, "where it happened is told"
    assert found_in({"the log": caplog.text, **rows}) == []
