"""A destination's password, pushed through every way to fail, is kept and told by nobody in any form."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from sqlalchemy import select

import config
from orderflow_outbox import enqueue
from orderflow_outbox.tables import incident, message
from tests.canary import (
    ANSWERS,
    CANARY,
    SECRET_FILE,
    USER,
    decoded,
    files,
    found_in,
    kept_by_broker,
    monitored,
    receivers,
    stored,
)
from tests.consoles import Person
from tests.databases import Databases, on_postgresql, on_sqlite, on_sqlite_first
from tests.desks import Webhook
from tests.documents import order
from tests.flowers import get, up
from tests.rig import Place, Rig, engine_of, eventually, free_port, rig
from tests.shell import Shell
from worker.broker import broker_url
from worker.deliveries import Reply
from worker.gate import REFUSALS_BEFORE_HOLD
from worker.masking import MASKED
from worker.rules import Judge

Command = tuple[object, ...]
Places = dict[str, str]
"""What is looked through, by what it is."""

HELD = {"unauthorized", "forbidden", "redirect", "certificate"}
"""Who is turned away waits: the destination is held, and a person called."""


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def configure(made: Rig, urls: dict[str, str], webhook: Webhook) -> None:
    """Give a rig a destination for each way to fail, all with the same password, and two desks."""
    (made.folder / SECRET_FILE).write_text(CANARY)
    file = made.folder / "destinations.toml"
    one = file.read_text().replace(
        '{ env = "ORDERFLOW_MAIN_PASSWORD" }', f'{{ file = "{made.folder / SECRET_FILE}" }}'
    )
    file.write_text(
        "\n".join(
            one.replace("destinations.main", f"destinations.{kind}").replace(made.simulator.url, url)
            for kind, url in urls.items()
        )
    )
    command = ["/bin/sh", "-c", f"cat >> {made.folder}/hook.jsonl; echo >> {made.folder}/hook.jsonl"]
    ways = (f"command = {json.dumps(command)}", f'webhook = "{webhook_address(webhook)}"')
    # Each hears of every other kind, since a process for each alert takes long.
    told = (f"{{ {way}, destinations = {sorted(urls)[n::2]} }}" for n, way in enumerate(ways[: len(urls)]))
    hooks = f"hooks = [{', '.join(told)}]"
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


SENDING_AGAIN: list[Command] = [("dead", "list"), ("dead", "replay", "--all", "--why", "again")]


def in_both_forms(*commands: Command) -> list[Command]:
    """Return each command twice: as it says something in words, and in JSON."""
    return [(*command, *form) for command in commands for form in ((), ("--json",))]


def in_turn(*commands: Command) -> list[Command]:
    """Return commands that are alike, every other of which says what it does in JSON."""
    return [(*command, "--json") if n % 2 else command for n, command in enumerate(commands)]


def reading(ids: dict[str, int]) -> list[Command]:
    """Return the commands that tell of messages."""
    return [
        *in_both_forms(("incidents",), ("status",), ("rules", "replay", "--since", "2020-01-01T00:00")),
        *in_turn(*(("show", number, "--payload") for number in ids.values())),
    ]


def asking(ids: dict[str, int]) -> list[Command]:
    """Return the commands that speak to others with what the configuration has."""
    query = ("query", "inventory", "--organisation", "acme", "--destination")
    return [
        *in_both_forms(("alerts", "test"), ("config", "check"), ("doctor",)),
        *in_turn(*((*query, kind) for kind in ids)),
    ]


def said_by(commands: list[Command], made: Rig, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Places:
    """Return what each command says."""
    monkeypatch.setenv("OUTBOX_CONFIG", str(made.file))
    monkeypatch.delenv("OUTBOX_DATABASE_URL")
    monkeypatch.delenv("OUTBOX_STATE_DIR")
    told = {}
    for command in commands:
        ran = shell.any(*command)
        told[" ".join(map(str, command))] = ran.out + ran.err
    return told


def pages_of_flower(port: int, login: str, ids: dict[str, int]) -> Places:
    """Return every page of Flower, and all that it knows of its tasks and workers."""
    pages = [
        "",
        "workers",
        "tasks",
        "broker",
        "metrics",
        "dead-letters",
        "api/workers",
        "api/tasks?limit=500",
    ]
    pages += [f"{page}/message-{number}" for page in ("task", "api/task/info") for number in ids.values()]
    found = {}
    for page in pages:
        status, body = get(f"http://127.0.0.1:{port}/{page}", login)
        assert status == 200, page
        found[f"Flower /{page}"] = body.decode()
    return found


def pages_of_console(made: Rig, ids: dict[str, int]) -> Places:
    """Return every page of the console, and the replies that it hands out."""
    web = config.load(made.file).settings.web
    password = (made.folder / "state" / "web-password").read_text().strip()
    pages = ["/", "/dead", "/destinations", "/incidents", "/audit"]
    pages += [f"/messages/{number}{more}" for number in ids.values() for more in ("", "/replies/1")]
    with Person(f"http://127.0.0.1:{web.port}") as admin:
        eventually(lambda: get(f"{admin.base}/health")[0] == 200, what="the console answers")
        assert admin.sign_in(web.user, password).status_code == 303
        found = {f"console {page}": admin.get(page) for page in pages}
    assert {reply.status_code for page, reply in found.items() if "replies" not in page} == {200}
    return {page: reply.text for page, reply in found.items()}


def desks(made: Rig, webhook: Webhook) -> Places:
    """Return what the hooks were told."""
    return {"command hook": (made.folder / "hook.jsonl").read_text(), "webhook": json.dumps(webhook.got)}


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
                kept: set[str] = set()

                def over() -> bool:
                    kept.update(kept_by_broker(path))
                    return is_over(made, ids)

                eventually(over, 60, "every message dead and told")
                commands = [*asking(ids), *reading(ids), *in_both_forms(*SENDING_AGAIN)]
                said = said_by(commands, made, shell, monkeypatch)
                eventually(over, 60, "every message replayed and dead")
                flower, pages = pages_of_flower(port, login, ids), pages_of_console(made, ids)
        rows, told = stored(made.engine), desks(made, webhook)
        where = {
            **rows,
            **files(made.folder),
            **told,
            **said,
            **flower,
            **pages,
            "broker's keys": "\n".join(kept),
        }
        where["what passed the broker"] = b"".join(passed).decode("utf-8", "replace")
        assert asked == set(ANSWERS), "each was sent the password"
    assert found_in(where) == []
    assert MASKED in rows["outbox_attempt.reply_body"]
    assert MASKED in rows["outbox_attempt.reply_headers"]
    assert all("message" in text for text in (*told.values(), flower["Flower /api/tasks?limit=500"]))
    assert any(MASKED in text for page, text in pages.items() if "replies" in page)
    assert "task-failed" in decoded(where["what passed the broker"])
    assert "_kombu.binding." in where["broker's keys"]


@on_postgresql
def test_a_password_is_found_nowhere_in_postgresql_either(
    place: Place,
    shell: Shell,
    databases: Databases,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        receivers() as (urls, asked),
        Webhook.listening() as webhook,
        rig(place, retry_after=[], attempt_deadline="500ms") as made,
    ):
        configure(made, urls, webhook)
        ids = enqueue_to_each(made, set(urls))
        with engine_of(made):
            eventually(lambda: is_over(made, ids), 60, "every message dead and told")
            said = said_by(SENDING_AGAIN, made, shell, monkeypatch)
            eventually(lambda: is_over(made, ids), 60, "every message replayed and dead")
        rows = stored(made.engine)
        where = {**rows, **files(made.folder), **desks(made, webhook), **said, "the log": caplog.text}
        where["the server's log"] = (databases.server.folder / "log").read_text()
        assert asked == set(ANSWERS), "each was sent the password"
    assert found_in(where) == []
    assert MASKED in rows["outbox_attempt.reply_body"]
    assert set(rows["outbox_message.replay_of"].split()) > {"None"}, "some were sent again"


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


@on_sqlite_first
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
