"""Incidents, not noise: one opens, is told, reminded of, acknowledged, and is told to be over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, insert

from config import AlertSettings, Hook
from orderflow_outbox import State
from orderflow_outbox.tables import dead_letter, incident, message
from tests.databases import on_postgresql_first, on_sqlite, on_sqlite_first
from tests.desks import NEVER_TAKES, Desk, Mailbox, Webhook, write_at_once
from tests.rig import PROJECT, eventually
from tests.steps import (
    ALERT_TIMES,
    DAY,
    LEASE,
    SECOND,
    Clock,
    another_connection,
    bury,
    claim_one,
    configuration,
    finish,
    outcome,
    put,
    rows,
    why,
)
from worker import alerts
from worker.alerts import FIRST_RETRY, LEASE_MARGIN, AlertSender, send_due_alerts
from worker.by_hand import discard
from worker.deliveries import Claim, Outcome, Reply, Settlement
from worker.excerpts import excerpt
from worker.hooks import running
from worker.recorder import Recorder
from worker.store import burying, evidence, gates, incidents
from worker.store.causes import BREAKER_OPEN, NO_OPERATION, AlertTimes, note_incident, resolve_incidents
from worker.store.transactions import Store, Transaction
from worker.verdicts import Refused, Why

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


def settings(*hooks: Hook) -> AlertSettings:
    return AlertSettings(grouping=ALERT_TIMES.grouping, reminder=ALERT_TIMES.reminder, hooks=list(hooks))


def once_due(store: Store, clock: Clock, *hooks: Hook) -> int:
    clock.forward(ALERT_TIMES.grouping)
    return send_due_alerts(store, settings(*hooks))


def kinds(desk: Desk) -> list[str]:
    return [each["kind"] for each in desk.told]


def hold(store: Store) -> None:
    with store.writing() as transaction:
        gates.hold(transaction, "main", Why("http_401", "unauthorised", "rule"), "the service", ALERT_TIMES)


def resume(store: Store) -> None:
    with store.writing() as transaction:
        gates.resume(transaction, "main", "ann")


def acknowledge(store: Store, engine: Engine) -> None:
    latest = rows(engine, incident)[-1]["id"]
    with store.writing() as transaction:
        assert incidents.acknowledge(transaction, latest, "ann") is not None


# The end of an incident


def test_an_incident_that_was_told_is_told_to_be_over_once(
    engine: Engine, store: Store, clock: Clock, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    letter = bury(store, engine)
    once_due(store, clock, desk.hook)
    clock.forward(10 * SECOND)
    discard(store, letter, "ann", "a test order")
    assert send_due_alerts(store, settings(desk.hook)) == 1
    clock.forward(30 * DAY)
    assert send_due_alerts(store, settings(desk.hook)) == 0
    assert kinds(desk) == ["opened", "resolved"]
    lines = [each for each in caplog.records if each.message.startswith("ALERT ")]
    assert [each.levelname for each in lines] == ["ERROR", "WARNING"]
    opened, resolved = desk.told
    assert resolved["incident"] == opened["incident"]
    assert resolved["text"].startswith("Resolved: 1 dead letter of order-import to main, settled by now")
    assert (opened["resolved_at"], resolved["open_dead_letters"]) == (None, 0)


@on_postgresql_first
def test_letters_settled_before_their_alert_are_told_by_one_that_says_so(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    for letter in [bury(store, engine) for _ in range(2)]:
        discard(store, letter, "ann", "a test order")
    assert send_due_alerts(store, settings(desk.hook)) == 0
    assert once_due(store, clock, desk.hook) == 1
    clock.forward(30 * DAY)
    assert send_due_alerts(store, settings(desk.hook)) == 0
    (alert,) = desk.told
    assert (alert["kind"], alert["occurrences"], alert["open_dead_letters"]) == ("resolved", 2, 0)


@on_sqlite_first
def test_a_destination_resumed_before_anybody_was_told_is_told_of_to_nobody(
    store: Store, clock: Clock, desk: Desk
) -> None:
    hold(store)
    resume(store)
    assert once_due(store, clock, desk.hook) == 0
    assert desk.told == []


@on_sqlite_first
def test_a_hold_that_was_told_is_told_to_be_over(store: Store, clock: Clock, desk: Desk) -> None:
    hold(store)
    once_due(store, clock, desk.hook)
    resume(store)
    send_due_alerts(store, settings(desk.hook))
    assert kinds(desk) == ["opened", "resolved"]
    assert desk.told[1]["text"] == "Resolved: destination main is held no more (http_401)"


@on_sqlite_first
def test_a_breaker_is_told_by_what_it_notes(store: Store, clock: Clock, desk: Desk) -> None:
    for _ in range(2):
        with store.writing() as transaction:
            note_incident(
                transaction,
                cause=BREAKER_OPEN,
                destination="main",
                operation=NO_OPERATION,
                reason="connect_failed",
                text="8 of 10 failed",
                message_id=None,
                alert_times=ALERT_TIMES,
            )
    once_due(store, clock, desk.hook)
    with store.writing() as transaction:
        resolve_incidents(transaction, BREAKER_OPEN, "main")
    send_due_alerts(store, settings(desk.hook))
    assert kinds(desk) == ["opened", "resolved"]
    assert desk.told[0]["text"] == "The breaker of destination main is open (connect_failed): 8 of 10 failed"
    assert (desk.told[0]["severity"], desk.told[0]["occurrences"]) == ("critical", 2)


@on_sqlite_first
def test_what_is_over_while_its_alert_goes_out_is_told_to_be_over(
    store: Store, clock: Clock, desk: Desk
) -> None:
    hold(store)
    clock.forward(ALERT_TIMES.grouping)
    sender = AlertSender(store, settings(desk.hook))
    sendings = sender.lease()
    resume(store)
    sender.record(sendings, sender.tell(sendings))
    send_due_alerts(store, settings(desk.hook))
    assert kinds(desk) == ["opened", "resolved"]


@on_sqlite_first
def test_what_is_over_before_any_hook_took_its_alert_is_told_of_to_nobody(
    store: Store, clock: Clock, desk: Desk
) -> None:
    hold(store)
    clock.forward(ALERT_TIMES.grouping)
    sender = AlertSender(store, settings(NEVER_TAKES))
    sendings = sender.lease()
    resume(store)
    assert sender.record(sendings, sender.tell(sendings)) == 0
    clock.forward(DAY)
    assert send_due_alerts(store, settings(desk.hook)) == 0


@on_sqlite_first
def test_a_hook_that_was_told_is_told_of_the_end_though_another_never_was(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    letter = bury(store, engine)
    once_due(store, clock, NEVER_TAKES, desk.hook)
    discard(store, letter, "ann", "a test order")
    send_due_alerts(store, settings(NEVER_TAKES, desk.hook))
    assert kinds(desk) == ["opened", "resolved"]


@on_sqlite_first
def test_a_death_after_the_end_is_an_incident_of_its_own(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    letter = bury(store, engine)
    once_due(store, clock, desk.hook)
    discard(store, letter, "ann", "a test order")
    bury(store, engine)
    once_due(store, clock, desk.hook)
    assert sorted(kinds(desk)) == ["opened", "opened", "resolved"]
    assert len({each["incident"] for each in desk.told}) == 2


def flap(store: Store, clock: Clock, desk: Desk, there: timedelta, away: timedelta) -> None:
    """Have a breaker open and close once, with alerts sent every second."""
    for since in range(round((there + away) / SECOND)):
        with store.writing() as transaction:
            if since == 0:
                open_breaker(transaction)
            elif since == there / SECOND:
                resolve_incidents(transaction, BREAKER_OPEN, "main")
        send_due_alerts(store, settings(desk.hook))
        clock.forward(SECOND)


def open_breaker(transaction: Transaction) -> None:
    note_incident(
        transaction,
        cause=BREAKER_OPEN,
        destination="main",
        operation=NO_OPERATION,
        reason="connect_failed",
        text="8 of 10 failed",
        message_id=None,
        alert_times=ALERT_TIMES,
    )


@on_sqlite
def test_a_breaker_that_opens_and_closes_again_and_again_is_one_incident_and_a_handful_of_alerts(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    for _ in range(17):
        flap(store, clock, desk, 31 * SECOND, 4 * SECOND)
    (the_only,) = rows(engine, incident)
    assert the_only["occurrences"] == 17
    assert kinds(desk) == ["opened", "resolved", "reminder", "resolved"]
    with store.writing() as transaction:
        open_breaker(transaction)
    clock.forward(HOUR)
    send_due_alerts(store, settings(desk.hook))
    assert kinds(desk)[4:] == ["reminder"], "what stays is told"


def test_what_comes_back_after_long_is_an_incident_of_its_own(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    for _ in range(2):
        hold(store)
        once_due(store, clock, desk.hook)
        resume(store)
        send_due_alerts(store, settings(desk.hook))
        clock.forward(ALERT_TIMES.reminder)
    assert len(rows(engine, incident)) == 2
    assert kinds(desk) == 2 * ["opened", "resolved"]


@on_sqlite_first
def test_what_comes_back_while_its_end_is_told_is_told(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    hold(store)
    once_due(store, clock, desk.hook)
    resume(store)
    sender = AlertSender(store, settings(desk.hook))
    sendings = sender.lease()
    hold(store)
    sender.record(sendings, sender.tell(sendings))
    clock.forward(HOUR)
    send_due_alerts(store, settings(desk.hook))
    assert kinds(desk) == ["opened", "resolved", "reminder"]


# Acknowledging


@on_sqlite_first
def test_an_acknowledged_incident_is_silent_until_it_is_over(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    letters = [bury(store, engine) for _ in range(2)]
    once_due(store, clock, desk.hook)
    acknowledge(store, engine)
    letters.append(bury(store, engine))
    clock.forward(30 * DAY)
    assert send_due_alerts(store, settings(desk.hook)) == 0
    for letter in letters:
        discard(store, letter, "ann", "test orders")
    assert send_due_alerts(store, settings(desk.hook)) == 1
    assert [(each["kind"], each["occurrences"]) for each in desk.told] == [("opened", 2), ("resolved", 3)]


def test_twice_as_many_letters_as_were_acknowledged_end_the_silence(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    for _ in range(2):
        bury(store, engine)
    once_due(store, clock, desk.hook)
    acknowledge(store, engine)
    clock.forward(DAY)
    bury(store, engine)
    assert once_due(store, clock, desk.hook) == 0
    bury(store, engine)
    assert once_due(store, clock, desk.hook) == 1
    assert [(each["kind"], each["occurrences"]) for each in desk.told] == [("opened", 2), ("reminder", 4)]
    clock.forward(DAY)
    assert send_due_alerts(store, settings(desk.hook)) == 1, "it is reminded of again"


@on_sqlite_first
def test_letters_that_end_a_silence_are_news_to_those_that_took_the_alert_before(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    bury(store, engine)
    once_due(store, clock, NEVER_TAKES, desk.hook)
    acknowledge(store, engine)
    bury(store, engine)
    once_due(store, clock, NEVER_TAKES, desk.hook)
    assert [(each["kind"], each["occurrences"]) for each in desk.told] == [("opened", 1), ("reminder", 2)]


def test_reminders_may_be_further_apart_than_a_day(clock: Clock) -> None:
    rarely = AlertTimes(ALERT_TIMES.grouping, timedelta(days=3650))
    for sent in (1, 2, 100):
        assert rarely.next_alert(clock.now, sent) == clock.now + rarely.reminder
        assert ALERT_TIMES.next_alert(clock.now, sent) <= clock.now + DAY


@on_sqlite_first
def test_an_alert_that_nobody_took_goes_out_though_its_incident_is_acknowledged(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    bury(store, engine)
    acknowledge(store, engine)
    assert once_due(store, clock, NEVER_TAKES) == 0
    clock.forward(HOUR)
    assert send_due_alerts(store, settings(desk.hook)) == 1
    clock.forward(30 * DAY)
    assert send_due_alerts(store, settings(desk.hook)) == 0


@on_sqlite_first
def test_a_hook_that_fails_is_left_alone_once_another_told_and_a_person_acknowledged(
    engine: Engine, store: Store, clock: Clock, desk: Desk, webhook: Webhook
) -> None:
    bury(store, engine)
    webhook.status = 503
    once_due(store, clock, webhook.hook, desk.hook)
    acknowledge(store, engine)
    clock.forward(DAY)
    assert send_due_alerts(store, settings(webhook.hook, desk.hook)) == 0
    assert (len(webhook.got), len(desk.told)) == (1, 1)


@on_postgresql_first
def test_a_hook_that_fails_is_left_alone_where_the_incident_is_acknowledged_while_it_is_told(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    bury(store, engine)
    clock.forward(ALERT_TIMES.grouping)
    sender = AlertSender(store, settings(NEVER_TAKES, desk.hook))
    sendings = sender.lease()
    acknowledge(store, engine)
    sender.record(sendings, sender.tell(sendings))
    clock.forward(DAY)
    assert send_due_alerts(store, settings(NEVER_TAKES, desk.hook)) == 0
    assert kinds(desk) == ["opened"]


@on_sqlite_first
def test_an_alert_that_may_have_arrived_in_part_is_not_sent_again_once_a_person_acknowledged(
    engine: Engine, store: Store, clock: Clock, webhook: Webhook
) -> None:
    bury(store, engine)
    webhook.status = 503
    once_due(store, clock, webhook.hook)
    clock.forward(DAY)
    sender = AlertSender(store, settings(webhook.hook))
    sendings = sender.lease()
    acknowledge(store, engine)
    sender.record(sendings, sender.tell(sendings))
    clock.forward(DAY)
    assert send_due_alerts(store, settings(webhook.hook)) == 0
    assert len(webhook.got) == 2


def test_a_new_alert_goes_out_before_those_that_failed(engine: Engine, store: Store, clock: Clock) -> None:
    bury(store, engine, reason="old")
    once_due(store, clock, NEVER_TAKES)
    clock.forward(HOUR)
    bury(store, engine, reason="new")
    clock.forward(ALERT_TIMES.grouping)
    leased = AlertSender(store, settings(NEVER_TAKES)).lease()
    assert [each.alert.reason for each in leased] == ["new", "old"]


@on_sqlite
@pytest.mark.parametrize("is_told", [True, False])
def test_a_resolution_that_a_hook_never_takes_is_given_up_unless_it_is_all_that_is_heard_of_letters(
    engine: Engine, store: Store, clock: Clock, desk: Desk, caplog: pytest.LogCaptureFixture, is_told: bool
) -> None:
    letter = bury(store, engine)
    once_due(store, clock, desk.hook if is_told else NEVER_TAKES)
    discard(store, letter, "ann", "a test order")
    if not is_told:
        clock.forward(FIRST_RETRY)
    ended, tries = clock.now, 0
    while (due := rows(engine, incident)[0]["alert_due_at"]) and tries < 20:
        clock.now = max(due, clock.now)
        assert send_due_alerts(store, settings(NEVER_TAKES)) == 0
        tries += 1
    assert tries == (incidents.RESOLUTION_TRIES if is_told else 20)
    assert is_told == ("an alert hook failed, given up: webhook" in caplog.text)
    if is_told:
        assert HOUR / 2 < clock.now - ended < HOUR


@on_sqlite
def test_reminders_grow_rarer_though_one_hook_never_takes_any(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    bury(store, engine)
    begun = clock.now
    once_due(store, clock, NEVER_TAKES, desk.hook)
    told_at = []
    while clock.now < begun + 8 * HOUR:
        clock.forward(HOUR / 2)
        before = len(desk.told)
        send_due_alerts(store, settings(NEVER_TAKES, desk.hook))
        told_at += [round((clock.now - begun) / HOUR)] * (len(desk.told) - before)
    assert kinds(desk) == ["opened", "reminder", "reminder", "reminder"]
    assert told_at == [1, 3, 7]


# Whom it reaches


@on_sqlite_first
def test_alerts_go_where_their_severity_and_destination_send_them(
    engine: Engine, store: Store, clock: Clock, tmp_path: Path
) -> None:
    pager = Desk(tmp_path, "pager", severities=["critical"])
    other = Desk(tmp_path, "other", destinations=["other"])
    everything = Desk(tmp_path, "everything")
    bury(store, engine)
    hold(store)
    assert once_due(store, clock, pager.hook, other.hook, everything.hook) == 2
    assert [each["cause"] for each in pager.told] == ["destination-held"]
    assert other.told == []
    assert Counter(each["severity"] for each in everything.told) == {"critical": 1, "error": 1}


def test_what_concerns_no_destination_reaches_hooks_of_any_destination(tmp_path: Path) -> None:
    hook = Desk(tmp_path, destinations=["other"]).hook
    assert hook.is_told(hook.severities[0], "")
    assert not hook.is_told(hook.severities[0], "main")


@on_sqlite_first
def test_an_alert_that_no_hook_is_to_hear_of_is_a_line_in_the_log(
    engine: Engine, store: Store, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bury(store, engine)
    assert once_due(store, clock, Desk(tmp_path, severities=["warning"]).hook) == 1
    assert "ALERT 1 dead letter" in caplog.text


@on_sqlite
def test_a_dead_letter_arrives_as_mail_and_so_does_its_end(
    engine: Engine, store: Store, clock: Clock
) -> None:
    with Mailbox.open() as mailbox:
        hook = Hook(apprise=SecretStr(mailbox.address))
        letter = bury(store, engine)
        assert once_due(store, clock, hook) == 1
        discard(store, letter, "ann", "a test order")
        assert once_due(store, clock, hook) == 1
    about = "main order-import items_failed"
    assert [mail["Subject"] for mail in mailbox.mails] == [
        f"[error] dead-letters opened: {about}",
        f"[error] dead-letters resolved: {about}",
    ]


# What it says


def test_an_alert_tells_keys_age_and_a_reply_of_what_it_is_about(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    for n in range(7):
        put(engine, key=f"order:SO-{n}")
        finish(store, Refused(why("items_failed")), reply=Reply(500, (), b"<e>sold\r\n &amp; \x00 out</e>"))
        clock.forward(SECOND)
    assert once_due(store, clock, desk.hook) == 1
    (alert,) = desk.told
    assert alert["keys"] == [f"order:SO-{n}" for n in (6, 5, 4, 3, 2)]
    assert alert["oldest_age_seconds"] == 7 + ALERT_TIMES.grouping.total_seconds()
    assert alert["sample_reply"] == {"status": 500, "text": "<e>sold & · out</e>"}


SENT = (
    b"<imports><import externalReference='SO-1'><![CDATA[email=ann.customer@example.com]]></import></imports>"
)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (b"sold out", "sold out"),
        (b"unknown SO-1 in <import>", "unknown SO-1 in <import>"),
        (b"bad: " + SENT, "bad: …"),
        (b"bad: " + SENT[:40] + b" and more", "bad: … and more"),
        (b"bad: email=ann.customer@example.com!", "bad: …!"),
        (b"bad: EMAIL=Ann.Customer@example.com!", "bad: …!"),
        (b"bad: &lt;![CDATA[email=ann.customer@example.com", "bad: …"),
        (b"x" * 290 + SENT, "x" * 290 + "…"),
        (b"x" * 1000, "x" * 300),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"", ""),
    ],
)
def test_of_a_reply_is_told_what_it_does_not_repeat_of_the_payload(reply: bytes, told: str) -> None:
    assert excerpt(reply, SENT) == told


def test_a_repetition_is_found_wherever_it_lies_in_the_payload() -> None:
    payload = "".join(chr(0x100 + n) for n in range(200)) + "İ" + "x" * 7
    for begin in range(len(payload)):
        for length in (15, 16, 17, 40):
            piece = payload[begin : begin + length]
            told = excerpt(f"a {piece} b".encode(), payload.encode())
            assert (told == "a … b") == (len(piece) >= 16), (begin, length)


@on_sqlite_first
def test_what_a_letter_says_is_told_without_what_its_reply_repeats_of_the_payload(
    engine: Engine, store: Store, clock: Clock, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    announced: list[str] = []
    told = Recorder(
        store, configuration(), ALERT_TIMES, lambda _step, _claim, text, _took: announced.append(text)
    )
    lifted = why("items_failed", "refused: deliverypostcode=AB1 2CD")
    put(engine)
    assert told.record([outcome(claim_one(store), Refused(lifted), Reply(500, (), b"refused"))])
    assert once_due(store, clock, desk.hook) == 1
    assert [desk.told[0]["sample_text"], *announced] == 2 * ["refused:…"]
    assert "AB1 2CD" not in desk.text + caplog.text


@on_sqlite
def test_evidence_is_looked_for_while_others_can_write(
    engine: Engine, store: Store, clock: Clock, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(store, engine)
    other = another_connection(engine)

    def writing_meanwhile(*arguments: Any) -> str:
        put(other)
        return excerpt(*arguments)

    monkeypatch.setattr(evidence, "excerpt", writing_meanwhile)
    assert once_due(store, clock, desk.hook) == 1
    other.dispose()


# Ten thousand, and senders that die


@on_sqlite_first
def test_ten_thousand_letters_of_three_causes_within_a_minute_are_three_alerts_and_three_resolutions(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    number, group, reasons = 10_000, 250, ("items_failed", "http_400", "not_understood")
    ids = dead_messages(engine, clock, number)
    for begin in range(0, number, group):
        dying = [death(n, clock, reasons[n % 3]) for n in ids[begin : begin + group]]
        with store.writing() as transaction:
            burying.bury(transaction, dying, ALERT_TIMES)
        clock.forward(timedelta(seconds=60 * group / number))
        send_due_alerts(store, settings(desk.hook))
    once_due(store, clock, desk.hook)
    assert sorted(each["reason"] for each in desk.told) == sorted(reasons)
    assert kinds(desk) == 3 * ["opened"]
    with store.writing() as transaction:
        transaction.connection.execute(dead_letter.update().values(resolution="discarded"))
        burying.close_settled_incidents(transaction)
    once_due(store, clock, desk.hook)
    clock.forward(30 * DAY)
    assert send_due_alerts(store, settings(desk.hook)) == 0
    assert kinds(desk)[3:] == 3 * ["resolved"]
    assert sum(each["occurrences"] for each in desk.told[3:]) == number


def dead_messages(engine: Engine, clock: Clock, number: int) -> list[int]:
    """Store messages that are dead already, and return their numbers."""
    alike = {
        "destination": "main",
        "operation": "order-import",
        "blocks": False,
        "fingerprint": b"0" * 32,
        "state": State.DEAD.value,
        "attempts": 1,
        "tries": 1,
        "rescues": 0,
        "lease_token": 1,
        "in_doubt": False,
        "created_at": clock.now,
    }
    messages = [{**alike, "id": n, "position": n, "idempotency_key": f"k-{n}"} for n in range(1, number + 1)]
    with engine.begin() as connection:
        connection.execute(insert(message), messages)
    return [each["id"] for each in messages]


def death(number: int, clock: Clock, reason: str) -> Settlement:
    claim = Claim(
        id=number,
        destination="main",
        operation="order-import",
        channel=None,
        organisation=None,
        key=None,
        version=None,
        idempotency_key=f"k-{number}",
        token=1,
        attempt=1,
        tries=1,
        in_doubt=False,
        edited=False,
        created_at=clock.now,
        expires_at=None,
        replay_of=None,
        claimed_at=clock.now,
        payload=None,
        query={},
        headers={},
    )
    verdict = Refused(why(reason))
    return Settlement(Outcome(claim, verdict), State.DEAD, None, 1, False, False, death=verdict.why)


SEND = """
import sys
from datetime import datetime, timedelta
from pydantic import SecretStr
from config import AlertSettings, Hook
from worker.alerts import send_due_alerts
from worker.database import connect
from worker.store.transactions import Store
now = datetime.fromisoformat(sys.argv[2])
settings = AlertSettings(hooks=[Hook(webhook=SecretStr(sys.argv[3]))])
send_due_alerts(Store(connect(SecretStr(sys.argv[1])), lambda _: now), settings)
"""


@on_sqlite_first
def test_a_sender_killed_between_sending_and_recording_costs_one_alert_more_at_most(
    engine: Engine, store: Store, clock: Clock, webhook: Webhook
) -> None:
    bury(store, engine)
    clock.forward(ALERT_TIMES.grouping)
    webhook.answering.clear()
    url = webhook.hook.webhook.get_secret_value()
    arguments = [engine.url.render_as_string(hide_password=False), clock.now.isoformat(), url]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    sender = subprocess.Popen([sys.executable, "-c", SEND, *arguments], cwd=PROJECT, env=environment)
    eventually(lambda: webhook.got)
    os.kill(sender.pid, signal.SIGKILL)
    sender.wait()
    webhook.answering.set()
    clock.forward(AlertSettings().timeout + LEASE_MARGIN - SECOND)
    assert send_due_alerts(store, settings(webhook.hook)) == 0, "its lease still holds"
    clock.forward(2 * SECOND)
    assert send_due_alerts(store, settings(webhook.hook)) == 1
    clock.forward(ALERT_TIMES.reminder - SECOND)
    assert send_due_alerts(store, settings(webhook.hook)) == 0
    assert [document["kind"] for _, _, document in webhook.got] == ["opened", "opened"]


@on_sqlite_first
def test_an_alert_is_recorded_once_the_database_takes_it_again(
    engine: Engine, store: Store, clock: Clock, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "RECORD_AGAIN_SECONDS", 0.01)
    bury(store, engine)
    clock.forward(ALERT_TIMES.grouping)
    sender = AlertSender(store, settings(desk.hook))
    sendings = sender.lease()
    answers = sender.tell(sendings)
    refusals = iter([ConnectionError("gone"), ConnectionError("gone")])

    def refusing(*arguments: Any) -> bool:
        for error in refusals:
            raise error
        return record(*arguments)

    record = incidents.record_alert_sent
    monkeypatch.setattr(incidents, "record_alert_sent", refusing)
    assert sender.record(sendings, answers) == 1
    clock.forward(LEASE)
    assert send_due_alerts(store, settings(desk.hook)) == 0


@on_sqlite_first
def test_a_database_that_stays_away_is_told_before_the_lease_is_over(
    engine: Engine, store: Store, clock: Clock, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert timedelta(seconds=alerts.RECORD_SECONDS) < LEASE_MARGIN
    monkeypatch.setattr(alerts, "RECORD_SECONDS", 0.0)
    bury(store, engine)
    clock.forward(ALERT_TIMES.grouping)
    sender = AlertSender(store, settings(desk.hook))
    sendings = sender.lease()

    def refusing(*_: Any) -> bool:
        raise ConnectionError("gone")

    monkeypatch.setattr(incidents, "record_alert_sent", refusing)
    with pytest.raises(ConnectionError):
        sender.record(sendings, sender.tell(sendings))


@on_postgresql_first
def test_an_alert_that_cannot_be_recorded_keeps_no_other_from_it(
    engine: Engine, store: Store, clock: Clock, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "RECORD_SECONDS", 0.0)
    for reason in ("a", "b", "c"):
        bury(store, engine, reason=reason)
    clock.forward(ALERT_TIMES.grouping)
    sender = AlertSender(store, settings(desk.hook))
    sendings = sender.lease()
    record = incidents.record_alert_sent

    def refusing(transaction: Any, alert: Any, *arguments: Any) -> bool:
        if alert.reason == "a":
            raise ValueError("this one")
        return record(transaction, alert, *arguments)

    monkeypatch.setattr(incidents, "record_alert_sent", refusing)
    with pytest.raises(ValueError, match="this one"):
        sender.record(sendings, sender.tell(sendings))
    assert [each["alerts_sent"] for each in rows(engine, incident)] == [0, 1, 1]


@on_sqlite_first
def test_a_lease_covers_every_hook_that_waits_for_its_turn(
    engine: Engine, store: Store, clock: Clock
) -> None:
    bury(store, engine)
    clock.forward(ALERT_TIMES.grouping)
    many = settings(*20 * [NEVER_TAKES])
    AlertSender(store, many).lease()
    rounds = alerts.AT_ONCE * 20 / running.MAX_AT_ONCE
    assert rows(engine, incident)[0]["lease_until"] == clock.now + rounds * many.timeout + LEASE_MARGIN


@on_sqlite_first
def test_a_sender_that_was_frozen_tells_nothing_that_another_may_be_telling(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    monotonic = [0.0]
    bury(store, engine)
    clock.forward(ALERT_TIMES.grouping)
    sender = AlertSender(store, settings(desk.hook), lambda: monotonic[0])
    sendings = sender.lease()
    monotonic[0] = LEASE_MARGIN.total_seconds()
    assert sender.record(sendings, sender.tell(sendings)) == 0
    assert desk.told == []
    clock.forward(FIRST_RETRY)
    assert send_due_alerts(store, settings(desk.hook)) == 1


@on_postgresql_first
def test_what_a_killed_sender_may_have_told_is_told_to_be_over(
    store: Store, clock: Clock, desk: Desk
) -> None:
    hold(store)
    clock.forward(ALERT_TIMES.grouping)
    with store.writing() as transaction:
        assert incidents.lease_due_alert(transaction, LEASE) is not None
    resume(store)
    clock.forward(LEASE + SECOND)
    assert send_due_alerts(store, settings(desk.hook)) == 1
    assert kinds(desk) == ["resolved"]


@on_sqlite
def test_a_hook_that_hangs_keeps_no_alert_of_another_incident_waiting(
    engine: Engine, store: Store, clock: Clock, desk: Desk
) -> None:
    for reason in ("a", "b", "c"):
        bury(store, engine, reason=reason)
    clock.forward(ALERT_TIMES.grouping)
    hang = Hook(command=[sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    given = settings(hang, desk.hook).model_copy(update={"timeout": SECOND})
    begun = time.monotonic()
    send_due_alerts(store, given)
    assert time.monotonic() - begun < 2.5, "three limits of a second would take three"
    assert len(desk.told) == 3
