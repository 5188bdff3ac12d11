"""Alerts: each death told in time, grouped, to real hooks, whatever the hooks do."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from config import AlertSettings, Hook
from orderflow_outbox.tables import incident
from tests.databases import on_postgresql_first, on_sqlite_first
from tests.desks import NEVER_TAKES, Desk, Webhook, write_at_once
from tests.documents import order
from tests.steps import (
    ALERT_TIMES,
    DAY,
    LEASE,
    REFUSED,
    SECOND,
    TURNED_AWAY,
    Clock,
    another_connection,
    bury,
    claim_all,
    finish,
    outcome,
    put,
    recorder,
    rows,
    swept,
    why,
)
from worker import alerts
from worker.alerts import FIRST_RETRY, LONGEST_RETRY, send_due_alerts
from worker.by_hand import discard
from worker.deliveries import Reply
from worker.store import incidents
from worker.store.transactions import Store
from worker.verdicts import Refused

HOUR = timedelta(hours=1)


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    write_at_once(monkeypatch)
    return Desk(tmp_path)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook.listening() as server:
        yield server


def settings(*hooks: Hook, timeout: timedelta = timedelta(seconds=5)) -> AlertSettings:
    return AlertSettings(
        grouping=ALERT_TIMES.grouping, reminder=ALERT_TIMES.reminder, timeout=timeout, hooks=list(hooks)
    )


def once_due(store: Store, clock: Clock, *hooks: Hook, **others: Any) -> int:
    clock.forward(ALERT_TIMES.grouping)
    return send_due_alerts(store, settings(*hooks, **others))


def the_incident(engine: Engine) -> Any:
    (only,) = rows(engine, incident)
    return only


def test_an_alert_is_sent_once_its_grouping_time_is_over(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    bury(store, engine)
    clock.forward(ALERT_TIMES.grouping - SECOND)
    assert send_due_alerts(store, settings(desk.hook)) == 0
    assert desk.told == []
    clock.forward(SECOND)
    assert send_due_alerts(store, settings(desk.hook)) == 1
    assert len(desk.told) == 1
    assert send_due_alerts(store, settings(desk.hook)) == 0
    assert len(desk.told) == 1


def test_many_letters_of_one_cause_are_one_alert_that_counts_them(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    ids = [bury(store, engine) for _ in range(5)]
    assert once_due(store, clock, desk.hook) == 1
    (alert,) = desk.told
    assert (alert["occurrences"], alert["new_occurrences"], alert["open_dead_letters"]) == (5, 5, 5)
    assert (alert["reason"], alert["operation"], alert["destination"]) == (
        "items_failed",
        "order-import",
        "main",
    )
    assert alert["sample_message"] == ids[-1]
    assert alert["text"].startswith("5 dead letters of order-import to main: items_failed.")


@on_sqlite_first
def test_letters_of_other_causes_are_other_alerts(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    bury(store, engine, reason="items_failed")
    bury(store, engine, reason="not_understood")
    assert once_due(store, clock, desk.hook) == 2
    assert sorted(each["reason"] for each in desk.told) == ["items_failed", "not_understood"]


@on_sqlite_first
def test_an_alert_tells_how_many_are_in_doubt_and_skips_what_is_settled(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    settled = bury(store, engine)
    bury(store, engine)
    put(engine, key="order:SO-9")
    finish(store, REFUSED, in_doubt=True)
    discard(store, settled, "ann", "test order")
    once_due(store, clock, desk.hook)
    (alert,) = desk.told
    assert (alert["occurrences"], alert["open_dead_letters"], alert["in_doubt"]) == (3, 2, 1)
    assert alert["sample_key"] == "order:SO-9"


@on_sqlite_first
def test_further_letters_are_told_but_not_before_the_reminder(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    bury(store, engine)
    once_due(store, clock, desk.hook)
    for _ in range(2):
        bury(store, engine)
    clock.forward(ALERT_TIMES.reminder - SECOND)
    assert send_due_alerts(store, settings(desk.hook)) == 0
    clock.forward(SECOND)
    assert send_due_alerts(store, settings(desk.hook)) == 1
    assert [(each["occurrences"], each["new_occurrences"]) for each in desk.told] == [(1, 1), (3, 2)]


@on_sqlite_first
def test_an_open_incident_is_reminded_of_at_intervals_that_double_up_to_a_day(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    bury(store, engine)
    once_due(store, clock, desk.hook)
    waits = []
    for _ in range(8):
        waits.append(the_incident(engine)["alert_due_at"] - clock.now)
        clock.now = the_incident(engine)["alert_due_at"] - SECOND
        assert send_due_alerts(store, settings(desk.hook)) == 0
        clock.forward(SECOND)
        assert send_due_alerts(store, settings(desk.hook)) == 1
    assert [wait / HOUR for wait in waits] == [1, 2, 4, 8, 16, 24, 24, 24]
    assert [each["kind"] for each in desk.told] == ["opened"] + 8 * ["reminder"]
    assert [each["new_occurrences"] for each in desk.told] == [1] + 8 * [0]


@on_sqlite_first
def test_a_letter_written_while_the_alert_goes_out_is_told_by_the_next(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    bury(store, engine)
    clock.forward(ALERT_TIMES.grouping)
    with store.writing() as transaction:
        alert = incidents.lease_due_alert(transaction, LEASE)
    assert alert is not None
    bury(store, engine)
    with store.writing() as transaction:
        assert incidents.record_alert_sent(transaction, alert, alert.occurrences, ALERT_TIMES)
    assert the_incident(engine)["alerted_occurrences"] == 1
    clock.forward(ALERT_TIMES.reminder)
    assert send_due_alerts(store, settings(desk.hook)) == 1
    assert desk.told[0]["new_occurrences"] == 1


@on_postgresql_first
def test_a_held_destination_is_told(engine: Engine, store: Store, clock: Clock, desk: Desk) -> None:
    for _ in range(3):
        put(engine)
    recorder(store).record([outcome(each, TURNED_AWAY) for each in claim_all(store).claims])
    once_due(store, clock, desk.hook)
    (alert,) = desk.told
    assert (alert["cause"], alert["destination"], alert["sample_message"]) == (
        "destination-held",
        "main",
        None,
    )
    assert alert["text"].startswith("Destination main is held (http_401)")


@on_sqlite_first
def test_a_message_that_dies_of_age_is_told(engine: Engine, store: Store, clock: Clock, desk: Desk) -> None:
    put(engine)
    clock.forward(8 * DAY)
    assert swept(store).expired == 1
    once_due(store, clock, desk.hook)
    assert [each["reason"] for each in desk.told] == ["expired"]


@on_sqlite_first
def test_a_webhook_and_a_command_get_the_same_document(
    engine: Engine, store: Store, clock: Clock, tmp_path: Path, webhook: Webhook
) -> None:
    desk = Desk(tmp_path)
    bury(store, engine)
    assert once_due(store, clock, webhook.hook, desk.hook) == 1
    ((path, content_type, document),) = webhook.got
    assert (path, content_type) == ("/desk?token=hush", "application/json")
    assert [document] == desk.told
    after = the_incident(engine)
    due = clock.now + ALERT_TIMES.reminder
    assert (after["alerts_sent"], after["last_alert_at"], after["alert_due_at"]) == (1, clock.now, due)


FAILING = {
    "failing": Hook(command=[sys.executable, "-S", "-c", "raise SystemExit(3)"]),
    "missing": Hook(command=["/nowhere/page-someone"]),
    "hanging": Hook(command=[sys.executable, "-S", "-c", "import time; time.sleep(30)"]),
}


@on_sqlite_first
@pytest.mark.parametrize(
    ("kind", "error", "seconds"),
    [
        ("failing", "ended with status 3", 60),
        ("missing", "could not be started", 60),
        ("hanging", "took longer than", 0.2),
    ],
)
def test_a_command_that_does_not_take_the_alert_is_tried_again_later(
    engine: Engine, store: Store, clock: Clock, kind: str, error: str, seconds: float
) -> None:
    bury(store, engine)
    assert once_due(store, clock, FAILING[kind], timeout=timedelta(seconds=seconds)) == 0
    after = the_incident(engine)
    assert error in after["last_alert_error"]
    assert after["alert_due_at"] == clock.now + FIRST_RETRY
    assert (after["alert_tries"], after["alerts_sent"], after["lease_until"]) == (1, 0, None)


@on_sqlite_first
def test_a_hanging_command_is_ended_in_time(engine: Engine, store: Store, clock: Clock) -> None:
    bury(store, engine)
    begun = time.monotonic()
    once_due(store, clock, FAILING["hanging"], timeout=timedelta(milliseconds=200))
    assert time.monotonic() - begun < 20


@on_sqlite_first
def test_a_webhook_that_does_not_take_the_alert_is_tried_again_later(
    engine: Engine, store: Store, clock: Clock, webhook: Webhook
) -> None:
    bury(store, engine)
    webhook.status = 503
    assert once_due(store, clock, webhook.hook) == 0
    assert the_incident(engine)["last_alert_error"] == "webhook answered HTTP 503"
    webhook.status = 204
    clock.forward(FIRST_RETRY)
    assert send_due_alerts(store, settings(webhook.hook)) == 1
    after = the_incident(engine)
    assert (after["last_alert_error"], after["alert_tries"], after["alerts_sent"]) == (None, 0, 1)


@on_sqlite_first
def test_a_webhook_that_hangs_is_left_in_time(
    engine: Engine, store: Store, clock: Clock, webhook: Webhook
) -> None:
    bury(store, engine)
    webhook.answering.clear()
    begun = time.monotonic()
    assert once_due(store, clock, webhook.hook, timeout=timedelta(milliseconds=200)) == 0
    assert time.monotonic() - begun < 20
    assert the_incident(engine)["last_alert_error"] == "webhook took longer than 0.2 s"


@on_sqlite_first
def test_a_webhook_that_is_not_there_is_tried_again_and_its_secret_is_not_told(
    engine: Engine, store: Store, clock: Clock, webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    bury(store, engine)
    webhook.server_close()
    assert once_due(store, clock, webhook.hook) == 0
    assert the_incident(engine)["last_alert_error"] == "webhook: ConnectionRefusedError"
    assert "hush" not in caplog.text


@on_sqlite_first
def test_the_waits_between_tries_grow_up_to_a_limit_and_never_end(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    bury(store, engine)
    clock.forward(ALERT_TIMES.grouping)
    waits = []
    for _ in range(10):
        assert send_due_alerts(store, settings(NEVER_TAKES)) == 0
        waits.append(the_incident(engine)["alert_due_at"] - clock.now)
        clock.now = the_incident(engine)["alert_due_at"]
    assert waits[:3] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY]
    assert waits[-2:] == [LONGEST_RETRY, LONGEST_RETRY]
    assert waits == sorted(waits)
    assert send_due_alerts(store, settings(desk.hook)) == 1
    assert len(desk.told) == 1


@on_sqlite_first
def test_one_failing_hook_keeps_no_other_from_being_told(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    bury(store, engine)
    once_due(store, clock, NEVER_TAKES, desk.hook)
    assert len(desk.told) == 1


@on_sqlite_first
def test_a_hook_that_took_an_alert_is_left_in_peace_while_another_is_tried_again(
    engine: Engine, store: Store, clock: Clock, desk: Desk, webhook: Webhook
) -> None:
    bury(store, engine)
    webhook.status = 503
    once_due(store, clock, webhook.hook, desk.hook)
    for _ in range(3):
        clock.forward(timedelta(minutes=10))
        send_due_alerts(store, settings(webhook.hook, desk.hook))
    assert (len(webhook.got), len(desk.told)) == (4, 1)
    webhook.status = 204
    clock.forward(timedelta(minutes=10))
    assert send_due_alerts(store, settings(webhook.hook, desk.hook)) == 1
    assert (len(webhook.got), len(desk.told)) == (5, 1)
    assert the_incident(engine)["alert_due_at"] == clock.now + ALERT_TIMES.reminder


def test_further_letters_reach_a_hook_although_another_never_takes_an_alert(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    bury(store, engine)
    once_due(store, clock, NEVER_TAKES, desk.hook)
    bury(store, engine)
    clock.forward(ALERT_TIMES.reminder)
    send_due_alerts(store, settings(NEVER_TAKES, desk.hook))
    assert [each["occurrences"] for each in desk.told] == [1, 2]


@on_sqlite_first
def test_letters_between_the_tries_of_one_hook_are_told_to_the_others_by_a_later_alert(
    engine: Engine, store: Store, clock: Clock, desk: Desk, webhook: Webhook
) -> None:
    bury(store, engine)
    webhook.status = 503
    once_due(store, clock, webhook.hook, desk.hook)
    bury(store, engine)
    webhook.status = 204
    clock.forward(timedelta(minutes=10))
    send_due_alerts(store, settings(webhook.hook, desk.hook))
    clock.forward(ALERT_TIMES.reminder)
    send_due_alerts(store, settings(webhook.hook, desk.hook))
    assert [each["occurrences"] for each in desk.told] == [1, 2]


@on_sqlite_first
def test_one_failing_incident_keeps_no_other_from_being_told(
    engine: Engine, store: Store, clock: Clock, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(store, engine, reason="items_failed")
    bury(store, engine, reason="not_understood")
    webhook.status = 503
    once_due(store, clock, webhook.hook)
    assert sorted(each[2]["reason"] for each in webhook.got) == ["items_failed", "not_understood"]


@on_sqlite_first
def test_letters_of_a_failed_alert_are_counted_in_the_one_that_goes_out(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    bury(store, engine)
    once_due(store, clock, NEVER_TAKES)
    bury(store, engine)
    clock.forward(FIRST_RETRY)
    send_due_alerts(store, settings(desk.hook))
    assert desk.told[0]["new_occurrences"] == 2


def test_two_senders_at_once_send_one_alert(engine: Engine, store: Store, clock: Clock, desk: Desk) -> None:
    bury(store, engine)
    clock.forward(ALERT_TIMES.grouping)
    both = threading.Barrier(2)
    sent: list[int] = []

    def send() -> None:
        mine = Store(another_connection(engine), clock)
        both.wait()
        sent.append(send_due_alerts(mine, settings(desk.hook)))
        mine.close()

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sent) == [0, 1]
    assert len(desk.told) == 1


def test_an_alert_whose_sender_died_is_sent_by_another(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    bury(store, engine)
    clock.forward(ALERT_TIMES.grouping)
    with store.writing() as transaction:
        lost = incidents.lease_due_alert(transaction, LEASE)
    assert lost is not None
    assert send_due_alerts(store, settings(desk.hook)) == 0
    clock.forward(LEASE + SECOND)
    assert send_due_alerts(store, settings(desk.hook)) == 1
    assert len(desk.told) == 1
    with store.writing() as transaction:
        assert not incidents.record_alert_sent(transaction, lost, lost.occurrences, ALERT_TIMES)
    assert the_incident(engine)["alerts_sent"] == 1


@on_sqlite_first
def test_an_alert_holds_no_payload_no_header_and_no_secret(
    engine: Engine,
    store: Store,
    clock: Clock,
    desk: Desk,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    put(engine, payload=order("SO-SECRET-CUSTOMER"), headers={"X-Trace": "trace-secret"})
    reply = Reply(
        500, (("set-cookie", "cookie-secret"),), f"not understood: {order('SO-SECRET-CUSTOMER')}".encode()
    )
    finish(store, Refused(why("items_failed")), reply=reply)
    once_due(store, clock, desk.hook, NEVER_TAKES)
    for secret in ("SECRET", "secret", "<import", "Basic", "demo", "c2VjcmV0"):
        assert secret not in desk.text
        assert secret not in caplog.text
    assert desk.told[0]["sample_reply"] == {"status": 500, "text": "not understood: …"}
    assert set(desk.told[0]) == {
        "kind",
        "severity",
        "resolved_at",
        "oldest_age_seconds",
        "keys",
        "sample_reply",
        "incident",
        "cause",
        "destination",
        "operation",
        "reason",
        "text",
        "opened_at",
        "occurrences",
        "new_occurrences",
        "open_dead_letters",
        "in_doubt",
        "sample_message",
        "sample_key",
        "sample_text",
    }


@on_sqlite_first
def test_without_hooks_the_line_in_the_log_is_the_alert(
    engine: Engine, store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    message_id = bury(store, engine)
    assert once_due(store, clock) == 1
    told = [each.message for each in caplog.records if each.name == alerts.__name__]
    what = "1 dead letter of order-import to main: items_failed"
    assert told == [f"ALERT {what}. Latest, message {message_id}: bad article"]
    assert the_incident(engine)["alerts_sent"] == 1


def test_a_round_sends_a_bounded_number_of_alerts(
    engine: Engine, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "MAX_ALERTS_A_ROUND", 2)
    for reason in ("a", "b", "c"):
        bury(store, engine, reason=reason)
    assert once_due(store, clock) == 2
    assert send_due_alerts(store, settings()) == 1
