"""`rules test` and `rules replay`: an edit of the rules is tried before it goes live."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.documents import order
from tests.shell import Shell
from tests.steps import DELIVERED, LATER, REFUSED, Clock, finish, put
from worker.commands import USAGE_ERROR
from worker.deliveries import Reply
from worker.replays.replaying import replay
from worker.store.attempts import MAX_STORED_REPLY_BYTES
from worker.store.transactions import Store
from worker.verdicts import Delivered, ItemResult, RetryLater, Why

HOUR = timedelta(hours=1)
SOLD_OUT = b"<response><code>17</code><say>Sold out</say></response>"
OWN = """
[[rules]]
name = "sold-out"
xpath = "//code = 17"
verdict = "refused"
reason = "sold_out"
text_from = ["//say"]
"""
UNKNOWN = RetryLater(Why("unknown_reply", "an unknown body", "unknown-body"), systemic=True)


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], engine: Engine) -> Shell:
    return Shell(capsys)


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


@pytest.fixture
def own(tmp_path: Path) -> str:
    file = tmp_path / "own-rules.toml"
    file.write_text(OWN)
    return str(file)


@pytest.fixture
def file(tmp_path: Path) -> str:
    file = tmp_path / "reply.xml"
    file.write_bytes(SOLD_OUT)
    return str(file)


def asked(shell: Shell, *arguments: object) -> Any:
    return shell.good(*arguments, "--json").json


def test_a_reply_in_a_file_is_judged_and_the_rule_is_named(shell: Shell, file: str, own: str) -> None:
    assert asked(shell, "rules", "test", file) == {
        "verdict": "retry",
        "rule": "unknown-body",
        "reason": "unknown_reply",
        "text": "HTTP 200 with an unknown body (no content type)",
        "items": [],
        "systemic": True,
        "after_seconds": None,
    }
    told = {"verdict": "refused", "rule": "sold-out", "reason": "sold_out", "text": "Sold out", "items": []}
    assert asked(shell, "rules", "test", file, "--rules", own) == told
    ran = shell.any("rules", "test", file, "--rules", own)
    assert "refused: rule sold-out, reason sold_out" in ran.out
    assert "Sold out" in ran.out


def test_status_headers_operation_and_doubt_can_be_given(shell: Shell, tmp_path: Path, file: str) -> None:
    busy = shell.any("rules", "test", file, "--status", "503", "--header", "Content-Type: text/xml")
    assert "retry: rule busy, reason http_503" in busy.out
    assert "the fault of the destination; tried again by the schedule" in busy.out
    sentence = tmp_path / "sentence.txt"
    sentence.write_text("No cancel operation performed for order SO-1")
    given = ("rules", "test", str(sentence), "--operation", "order-cancel")
    assert asked(shell, *given)["verdict"] == "refused"
    assert asked(shell, *given, "--in-doubt")["verdict"] == "delivered"


def test_a_messages_last_reply_is_judged_as_it_came(
    shell: Shell, engine: Engine, store: Store, own: str
) -> None:
    message_id = put(engine)
    finish(store, UNKNOWN, reply=Reply(200, (), SOLD_OUT))
    assert asked(shell, "rules", "test", str(message_id))["rule"] == "unknown-body"
    assert asked(shell, "rules", "test", str(message_id), "--rules", own)["rule"] == "sold-out"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["test", "no-such-file"], "no-such-file cannot be read"),
        (["test", "17"], "message 17 has no stored reply"),
        (["test", __file__, "--operation", "order-imports"], "--operation is 'order-imports': choose one of"),
        (["test", __file__, "--destination", "south"], "--destination is 'south': choose one of main"),
        (["test", "9" * 19], "9999999999999999999 cannot be read"),
        (["test", __file__, "--header", "text/xml"], "--header is 'text/xml': write it as 'Name: value'"),
        (["replay"], "--since is missing"),
    ],
)
def test_what_cannot_be_judged_is_said_in_one_line(shell: Shell, arguments: list[str], problem: str) -> None:
    ran = shell.any("rules", *arguments)
    assert (ran.status, ran.err.count("\n")) == (USAGE_ERROR, 1)
    assert problem in ran.err


def test_every_past_verdict_that_would_flip_is_listed(
    shell: Shell, engine: Engine, store: Store, own: str
) -> None:
    flipping = put(engine)
    finish(store, UNKNOWN, reply=Reply(200, (("Content-Type", "text/xml"),), SOLD_OUT))
    put(engine)
    finish(store, LATER, reply=Reply(503, (), b""))
    assert asked(shell, "rules", "replay", "--since", "1h") == {"judged": 2, "flips": 0, "replies": []}
    found = asked(shell, "rules", "replay", "--since", "1h", "--rules", own)
    assert (found["judged"], found["flips"]) == (2, 1)
    (reply,) = found["replies"]
    assert (reply["message_id"], reply["attempt"], reply["status"]) == (flipping, 1, 200)
    assert reply["was"]["rule"] == "unknown-body"
    assert reply["would_be"] == {
        "verdict": "refused",
        "rule": "sold-out",
        "reason": "sold_out",
        "text": "Sold out",
        "items": [],
    }
    ran = shell.any("rules", "replay", "--since", "1h", "--rules", own)
    assert "retry (unknown-body)" in ran.out
    assert "refused (sold-out)" in ran.out
    assert "2 replies judged, 1 verdicts would flip" in ran.out


def test_only_the_messages_and_the_time_asked_for_are_judged(
    shell: Shell, engine: Engine, store: Store, own: str
) -> None:
    put(engine)
    finish(store, UNKNOWN, reply=Reply(200, (), SOLD_OUT))
    given = ("rules", "replay", "--rules", own)
    assert asked(shell, *given, "--since", "2100-01-01")["judged"] == 0
    assert asked(shell, *given, "--since", "1h", "--operation", "order-cancel")["judged"] == 0
    assert asked(shell, *given, "--since", "1h", "--destination", "main")["judged"] == 1


def test_what_a_check_was_answered_is_not_taken_for_a_reply_to_the_message(
    shell: Shell, engine: Engine, store: Store, own: str
) -> None:
    message_id = put(engine)
    finish(store, UNKNOWN, reply=Reply(200, (), SOLD_OUT), checked_by="order-detail")
    assert asked(shell, "rules", "replay", "--since", "1h", "--rules", own)["judged"] == 0
    ran = shell.any("rules", "test", str(message_id), "--rules", own)
    assert f"message {message_id} has no stored reply" in ran.err


def test_a_reply_stored_in_part_is_listed_as_such(
    shell: Shell, engine: Engine, store: Store, own: str
) -> None:
    message_id = put(engine)
    finish(store, UNKNOWN, reply=Reply(200, (), b"<x/>" + b" " * MAX_STORED_REPLY_BYTES))
    found = asked(shell, "rules", "replay", "--since", "1h", "--rules", own)
    assert (found["judged"], found["flips"]) == (0, 0)
    (reply,) = found["replies"]
    assert (reply["message_id"], reply["would_be"]) == (message_id, None)
    assert reply["not_judged"] == "its reply is stored in part"
    assert "1 replies cannot be judged again" in shell.any("rules", "replay", "--since", "1h").out
    assert "stored in part" in shell.any("rules", "test", str(message_id)).err


def test_a_reply_is_judged_again_by_the_doubt_there_was_when_it_came(
    shell: Shell, engine: Engine, store: Store, clock: Clock
) -> None:
    cancel = {"operation": "order-cancel", "payload": None, "query": {"externalReference": "SO-1"}}
    nothing_done = Reply(200, (), b"No cancel operation performed for order SO-1")
    sure = put(engine, **cancel)
    finish(store, REFUSED, reply=nothing_done)
    doubted = put(engine, **cancel)
    for in_doubt in (False, True):
        finish(store, LATER, in_doubt=in_doubt)
        clock.forward(HOUR)
    finish(store, DELIVERED, reply=nothing_done)
    dead = put(engine, **cancel)
    clock.forward(HOUR)
    finish(store, REFUSED, reply=Reply(400, (), b""), in_doubt=True)
    replayed = replay(store, dead, "who", "why").replay
    finish(store, DELIVERED, reply=nothing_done)
    verdicts = [asked(shell, "rules", "test", each)["verdict"] for each in (sure, doubted, dead, replayed)]
    assert verdicts == ["refused", "delivered", "refused", "delivered"]
    found = asked(shell, "rules", "replay", "--since", "1h", "--operation", "order-cancel")
    assert (found["judged"], found["flips"]) == (6, 0)


def test_a_message_that_would_be_split_is_listed(
    shell: Shell, engine: Engine, store: Store, tmp_path: Path
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[[items]]\nname = "repeat"\ngroup = ["importDuplicates"]\nverdict = "refused"\nreason = "repeat"\n'
    )
    message_id = put(engine, payload=order("SO-1", "SO-2"))
    report = (
        b'<import externalReference="SO-1"/></importSuccesses><importDuplicates><import/></importDuplicates>'
    )
    reply = Reply(200, (), b"<importResult><importSuccesses>" + report + b"</importResult>")
    finish(store, DELIVERED, reply=reply)
    given = ("rules", "replay", "--since", "1h")
    assert asked(shell, *given)["flips"] == 0
    (found,) = asked(shell, *given, "--rules", own)["replies"]
    assert (found["message_id"], found["would_be"]["reason"]) == (message_id, "split")
    assert [item["verdict"] for item in found["would_be"]["items"]] == ["delivered", "refused"]


def test_an_item_that_would_go_another_way_is_listed(
    shell: Shell, engine: Engine, store: Store, tmp_path: Path
) -> None:
    own = tmp_path / "own.toml"
    rule = '[[items]]\nname = "there"\ngroup = ["importFailures"]\ntext = "there"\n'
    own.write_text(f'{rule}verdict = "delivered"\nreason = "there"\n')
    failures = "".join(
        f"<import><failureMessage>{words}</failureMessage></import>" for words in ("bad", "there")
    )
    report = f"<importSuccesses><import/></importSuccesses><importFailures>{failures}</importFailures>"
    reply = Reply(200, (), f"<importResult>{report}</importResult>".encode())
    message_id = put(engine, payload=order("SO-1", "SO-2", "SO-3"))
    verdicts = (DELIVERED, REFUSED, REFUSED)
    items = tuple(ItemResult(n, f"SO-{n}", verdict) for n, verdict in enumerate(verdicts, 1))
    finish(store, Delivered(Why("split", "1 done, 2 refused", "item-report")), reply=reply, items=items)
    given = ("rules", "replay", "--since", "1h")
    assert asked(shell, *given)["flips"] == 0
    (found,) = asked(shell, *given, "--rules", own)["replies"]
    assert found["message_id"] == message_id
    assert [item["verdict"] for item in found["would_be"]["items"]] == ["delivered", "refused", "delivered"]


def test_a_child_is_judged_again_by_the_doubt_it_was_born_with(
    shell: Shell, engine: Engine, store: Store, clock: Clock, tmp_path: Path
) -> None:
    own = tmp_path / "own.toml"
    rule = '[[items]]\nname = "repeat"\ngroup = ["importDuplicates"]\nin_doubt = false\n'
    own.write_text(f'{rule}verdict = "refused"\nreason = "repeat"\n')
    put(engine, payload=order("SO-1", "SO-2"))
    again = RetryLater(Why("not_mentioned", "the report does not mention it", "item-report"), systemic=False)
    items = (ItemResult(1, "SO-1", DELIVERED), ItemResult(2, "SO-2", again, mentioned=False))
    finish(store, Delivered(Why("split", "1 done, 1 to be sent again", "item-report")), items=items)
    clock.forward(HOUR)
    reply = Reply(200, (), b"<importResult><importDuplicates><import/></importDuplicates></importResult>")
    child = finish(store, DELIVERED, reply=reply).id
    assert asked(shell, "rules", "test", child, "--rules", own)["verdict"] == "delivered"
