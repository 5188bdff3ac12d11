"""Messages as Celery's events tell of them, taken in by the state that Flower is built on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from celery.events.state import State

from tasks.rows import Event, Told, cancelled, events_of, message_of, row_of
from worker.deliveries import Claim
from worker.ports import Step

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def claim(message_id: int, replay_of: int | None = None, attempt: int = 1) -> Claim:
    return Claim(
        id=message_id,
        destination="main",
        operation="order-import",
        channel="web",
        organisation=None,
        key="order:SO-1",
        version=None,
        idempotency_key="k",
        token=1,
        attempt=attempt,
        tries=attempt - 1,
        in_doubt=False,
        edited=False,
        created_at=NOW,
        expires_at=None,
        replay_of=replay_of,
        claimed_at=NOW,
        payload=b"<secret/>",
        query={"secret": "yes"},
        headers={"X-Secret": "yes"},
    )


def told(step: Step, claim: Claim, text: str = "") -> list[Event]:
    return events_of(Told(step, claim, text, 0.1, 0.0))


class Watcher:
    """Someone who takes in events in their order."""

    def __init__(self) -> None:
        self._state = State()
        self._clock = count(1)

    def hears(self, events: list[Event]) -> None:
        for kind, fields in events:
            clock = next(self._clock)
            moment = {"timestamp": float(clock), "local_received": float(clock), "clock": clock}
            self._state.event({**fields, **moment, "type": kind, "hostname": "outbox@here"})

    def row(self, message_id: int) -> Any:
        return self._state.tasks[row_of(message_id)]


@pytest.fixture
def watcher() -> Watcher:
    """A watcher who has seen message 1 die."""
    made = Watcher()
    made.hears(told(Step.STARTED, claim(1)) + told(Step.DEAD, claim(1), "no such article"))
    assert (made.row(1).state, made.row(1).exception) == ("FAILURE", "no such article")
    return made


def test_a_dead_row_goes_on_once_its_replay_is_sent(watcher: Watcher) -> None:
    watcher.hears(told(Step.STARTED, claim(2, replay_of=1)))
    assert (watcher.row(1).state, watcher.row(1).exception) == ("RETRY", "replayed as message 2")
    assert "'replayed_as': 2" in watcher.row(1).kwargs
    assert "'replay_of': 1" in watcher.row(2).kwargs
    assert watcher.row(2).parent_id == row_of(1)
    assert list(watcher.row(1).children) == [watcher.row(2)]


@pytest.mark.parametrize(
    ("step", "state", "exception", "result"),
    [
        (Step.DELIVERED, "SUCCESS", None, "replayed as message 2: it says"),
        (Step.DEAD, "FAILURE", "replayed as message 2, which is dead: it says", None),
        (Step.SUPERSEDED, "REVOKED", "replayed as message 2, which is superseded", None),
    ],
)
def test_a_dead_row_tells_how_its_replay_ended(
    watcher: Watcher, step: Step, state: str, exception: str | None, result: str | None
) -> None:
    watcher.hears(told(Step.STARTED, claim(2, replay_of=1)))
    watcher.hears(told(step, claim(2, replay_of=1), "it says"))
    row = watcher.row(1)
    assert (row.state, row.exception, row.traceback, row.result) == (state, exception, None, result)
    assert watcher.row(2).state == state


def test_a_row_that_watchers_never_knew_has_the_names_of_its_message() -> None:
    watcher = Watcher()
    watcher.hears(told(Step.STARTED, claim(2, replay_of=1)))
    assert (watcher.row(1).name, watcher.row(1).args) == ("order-import", "('order:SO-1',)")


def test_a_replay_tells_its_origin_no_more_than_its_begin_and_its_end() -> None:
    further = told(Step.RETRIED, claim(2, replay_of=1)) + told(Step.STARTED, claim(2, replay_of=1, attempt=2))
    assert {fields["uuid"] for _, fields in further} == {row_of(2)}


def test_a_replay_that_was_given_back_unsent_tells_its_origin_when_it_is_sent() -> None:
    sent = told(Step.STARTED, replace(claim(2, replay_of=1, attempt=2), tries=0))
    assert row_of(1) in {fields["uuid"] for _, fields in sent}


def test_a_row_shows_nothing_wrong_any_more_once_its_message_is_delivered() -> None:
    watcher = Watcher()
    watcher.hears(told(Step.STARTED, claim(3)) + told(Step.RETRIED, claim(3), "HTTP 503"))
    assert watcher.row(3).exception == "HTTP 503"
    watcher.hears(told(Step.STARTED, claim(3, attempt=2)) + told(Step.DELIVERED, claim(3, attempt=2), "ok"))
    assert (watcher.row(3).state, watcher.row(3).exception, watcher.row(3).result) == ("SUCCESS", None, "ok")


def test_a_superseded_message_and_a_cancelled_one_are_told_as_revoked() -> None:
    watcher = Watcher()
    watcher.hears(told(Step.STARTED, claim(4)) + told(Step.SUPERSEDED, claim(4), "HTTP 503"))
    assert (watcher.row(4).state, watcher.row(4).exception) == ("REVOKED", "superseded; last: HTTP 503")
    watcher.hears([*told(Step.STARTED, claim(5)), cancelled(5, "unwanted")])
    assert (watcher.row(5).state, watcher.row(5).exception) == ("REVOKED", "cancelled: unwanted")


def test_no_event_has_a_document_a_query_or_a_header() -> None:
    for step in Step:
        assert "secret" not in repr(told(step, claim(2, replay_of=1), "it says")).lower()


def test_a_row_is_of_a_message_or_of_a_task() -> None:
    assert message_of(row_of(17)) == 17
    others = [
        "message-",
        "message-0",
        "message-017",
        "message-1 ",
        "message-x",
        "message-٣",
        "4a5c6e0a",
        17,
        None,
    ]
    assert [each for each in [*others, f"message-{2**63}"] if message_of(each) is not None] == []
