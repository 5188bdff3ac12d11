"""Celery's remote control in a worker's main process: what it does to messages, and to tasks."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state as of_the_worker
from celery.worker.control import Panel
from sqlalchemy import Engine

from orderflow_outbox.tables import audit
from tasks import revoking
from tasks.flower.revoking import answer_of
from tests.databases import on_sqlite
from tests.rig import free_port
from tests.steps import put, row, rows

TASK = "4a5c6e0a-1a5b-4c53-9d7f-0a7d6c1b1f00"


class Node:
    """What Celery hands a command: its consumer, whose events are kept. There is no pool to end anyone of."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        dispatcher = SimpleNamespace(send=lambda kind, **fields: self.told.append((kind, fields["uuid"])))
        self.consumer = SimpleNamespace(event_dispatcher=dispatcher, pool=None)
        self.app = SimpleNamespace(backend=SimpleNamespace(get_state=lambda _: "SUCCESS"))


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture(autouse=True)
def _none_revoked_before() -> None:
    of_the_worker.revoked.clear()


def control(name: str, node: Node, **arguments: Any) -> Any:
    """Give a command as Celery does."""
    return Panel.data[name](node, **arguments)


@pytest.mark.parametrize("name", ["revoke", "terminate"])
def test_messages_are_cancelled_with_an_audit_row_each_and_told(
    engine: Engine, node: Node, name: str
) -> None:
    first, second = put(engine, key="order:1"), put(engine)
    signal = {"signal": "SIGKILL"} if name == "terminate" else {"terminate": True, "signal": "SIGKILL"}
    named = [f"message-{first}", f"message-{second}"]
    answer = control(name, node, task_id=named, **signal)
    assert answer == {"ok": f"message {first} is cancelled; message {second} is cancelled"}
    assert [row(engine, each)["state"] for each in (first, second)] == ["cancelled", "cancelled"]
    noted = [(each["verb"], each["by"], each["why"]) for each in rows(engine, audit)]
    assert noted == [("cancel", "flower", "revoked in Flower")] * 2
    assert node.told == [("task-revoked", each) for each in named]


@on_sqlite
def test_a_second_worker_that_is_asked_too_agrees_and_tells_nothing(engine: Engine, node: Node) -> None:
    message_id = put(engine)
    for told in (1, 1):
        answer = control("revoke", node, task_id=f"message-{message_id}")
        assert answer == {"ok": f"message {message_id} is cancelled"}
        assert len(node.told) == told
    assert len(rows(engine, audit)) == 1


@on_sqlite
def test_of_several_messages_that_which_cannot_be_cancelled_is_told(engine: Engine, node: Node) -> None:
    message_id = put(engine)
    answer = control("revoke", node, task_id=[f"message-{message_id}", "message-999"])
    assert answer == {"error": f"message {message_id} is cancelled; there is no message 999"}


@on_sqlite
def test_tasks_named_beside_messages_are_revoked_by_celery(engine: Engine, node: Node) -> None:
    message_id = put(engine)
    answer = control("revoke", node, task_id=[TASK, f"message-{message_id}"])
    assert answer["ok"].startswith(f"message {message_id} is cancelled; tasks ")
    assert list(of_the_worker.revoked) == [TASK]
    assert "flagged as revoked" in control("revoke", node, task_id=[TASK])["ok"]


@on_sqlite
def test_too_many_messages_at_once_are_refused_and_none_is_cancelled(engine: Engine, node: Node) -> None:
    message_id = put(engine)
    many = [f"message-{message_id + n}" for n in range(revoking.MOST_AT_ONCE + 1)]
    assert "too many at once" in control("revoke", node, task_id=many)["error"]
    assert row(engine, message_id)["state"] == "pending"


def test_a_database_that_is_away_is_an_answer_in_one_line(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOX_DATABASE_URL", f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    (told,) = control("revoke", node, task_id="message-1").values()
    assert "the database does not answer" in told
    assert "\n" not in told


def test_a_database_that_hangs_holds_the_worker_up_for_a_bounded_time(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(revoking, "_cancelled", lambda _: ended.wait(60) and [])
    monkeypatch.setattr(revoking, "ANSWER_SECONDS", 0.1)
    begun = time.monotonic()
    try:
        assert "did not answer within 0.1 s" in control("revoke", node, task_id="message-1")["error"]
        assert "has not answered yet" in control("revoke", node, task_id="message-1")["error"]
        assert time.monotonic() - begun < 30
    finally:
        ended.set()


def test_flower_says_when_no_worker_answered() -> None:
    assert answer_of((), 7) == (503, "no worker answered within 4 s: `python -m worker cancel 7` needs none")
