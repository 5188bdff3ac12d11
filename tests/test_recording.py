"""Recording: what is written of a verdict, all of it or nothing, and only by who holds the lease."""

from __future__ import annotations

import logging
import sqlite3
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from orderflow_outbox import PREDEFINED, WhenDead
from orderflow_outbox.tables import attempt, dead_letter, gate, incident, message
from tests.databases import on_postgresql, on_postgresql_first, on_sqlite, on_sqlite_first
from tests.refusals import inserts_refused
from tests.steps import (
    ALERT_TIMES,
    DELIVERED,
    LATER,
    LEASE,
    REFUSED,
    TURNED_AWAY,
    Clock,
    another_connection,
    bury,
    claim_all,
    claim_one,
    configuration,
    destinations,
    finish,
    outcome,
    put,
    recorder,
    row,
    rows,
    swept,
    why,
)
from worker.deliveries import Claim, Outcome, Reply
from worker.masking import MASKED
from worker.ports import Step
from worker.recorder import Recorder
from worker.requests import RequestBuilder
from worker.settling import HOLD_WAIT
from worker.store.attempts import MAX_STORED_HEADERS, MAX_STORED_REPLY_BYTES
from worker.store.transactions import Store
from worker.verdicts import Refused, RetryLater, Verdict

LONE_SURROGATE = "bad \ud800 text"


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


def attempts_of(engine: Engine, message_id: int) -> list[tuple[int, str]]:
    return [(each["n"], each["verdict"]) for each in rows(engine, attempt, message_id=message_id)]


def everything(engine: Engine) -> list[object]:
    return [rows(engine, table) for table in (message, attempt, dead_letter, incident, gate)]


def dropped_as_late(caplog: pytest.LogCaptureFixture) -> bool:
    """Tell whether a result was dropped on sight, and not only once the database refused it."""
    return "a late result of attempt 1 was dropped" in caplog.text and "was refused" not in caplog.text


@on_sqlite_first
def test_a_delivered_message_has_ended(engine: Engine, store: Store, clock: Clock) -> None:
    message_id = put(engine, key="order:1")
    finish(store, DELIVERED)
    after = row(engine, message_id)
    assert (after["state"], after["due_at"], after["finished_at"]) == ("delivered", None, clock.now)
    assert (after["lease_until"], after["blocks"], after["in_doubt"]) == (None, False, False)
    assert attempts_of(engine, message_id) == [(1, "delivered")]


@on_postgresql_first
def test_a_refused_message_is_dead_with_a_letter_and_an_incident(
    engine: Engine, store: Store, clock: Clock
) -> None:
    message_id = put(engine)
    finish(store, Refused(why("items_failed", "no such article")), in_doubt=True)
    (letter,) = rows(engine, dead_letter)
    (opened,) = rows(engine, incident)
    assert (row(engine, message_id)["state"], row(engine, message_id)["in_doubt"]) == ("dead", True)
    assert (letter["message_id"], letter["reason"], letter["text"]) == (
        message_id,
        "items_failed",
        "no such article",
    )
    assert (letter["resolution"], letter["in_doubt"], letter["died_at"]) == ("open", True, clock.now)
    assert letter["incident_id"] == opened["id"]
    assert (opened["occurrences"], opened["alert_due_at"]) == (1, clock.now + ALERT_TIMES.grouping)


@on_sqlite_first
def test_a_message_to_be_retried_waits_for_its_time_and_has_spent_a_try(
    engine: Engine, store: Store, clock: Clock
) -> None:
    message_id = put(engine)
    finish(store, LATER)
    after = row(engine, message_id)
    assert (after["state"], after["tries"], after["finished_at"]) == ("pending", 1, None)
    wait = destinations()["main"].retry.waits[0]
    assert 0.9 * wait <= after["due_at"] - clock.now <= 1.1 * wait
    assert attempts_of(engine, message_id) == [(1, "retry")]


@on_sqlite_first
def test_the_receivers_wish_for_a_longer_wait_is_granted(engine: Engine, store: Store, clock: Clock) -> None:
    message_id = put(engine)
    finish(store, RetryLater(why("http_429"), systemic=True, not_before=timedelta(minutes=7)))
    assert row(engine, message_id)["due_at"] == clock.now + timedelta(minutes=7)


@on_sqlite_first
def test_when_the_last_try_fails_the_message_is_dead(engine: Engine, store: Store, clock: Clock) -> None:
    message_id = put(engine)
    tries = destinations()["main"].retry.tries
    for _ in range(tries):
        finish(store, LATER)
        clock.forward(timedelta(hours=12))
    after = row(engine, message_id)
    assert (after["state"], after["attempts"], after["tries"]) == ("dead", tries, tries)
    (letter,) = rows(engine, dead_letter)
    assert letter["reason"] == "http_503"
    assert letter["text"].startswith(f"after {tries} tries: ")


@on_sqlite_first
def test_a_message_that_was_turned_away_spends_no_try(engine: Engine, store: Store, clock: Clock) -> None:
    message_id = put(engine)
    finish(store, TURNED_AWAY)
    after = row(engine, message_id)
    assert (after["state"], after["tries"], after["attempts"]) == ("pending", 0, 1)
    assert after["due_at"] == clock.now + HOLD_WAIT
    assert attempts_of(engine, message_id) == [(1, "hold")]


@on_sqlite_first
def test_a_message_given_back_unsent_is_due_at_once_and_leaves_no_attempt_row(
    engine: Engine, store: Store, clock: Clock
) -> None:
    message_id = put(engine)
    recorder(store).record([Outcome(claim_one(store), None)])
    after = row(engine, message_id)
    assert (after["state"], after["due_at"], after["tries"]) == ("pending", clock.now, 0)
    assert attempts_of(engine, message_id) == []


@on_sqlite_first
def test_a_message_cut_short_by_a_stop_is_logged_as_released(engine: Engine, store: Store) -> None:
    message_id = put(engine)
    recorder(store).record([replace(outcome(claim_one(store), None), reply=None, in_doubt=True)])
    assert (row(engine, message_id)["state"], row(engine, message_id)["in_doubt"]) == ("pending", True)
    assert attempts_of(engine, message_id) == [(1, "released")]


@on_sqlite_first
def test_each_step_is_announced_after_it_was_written(engine: Engine, store: Store) -> None:
    told: list[tuple[Step, str, str]] = []

    def note(step: Step, claim: Claim, text: str, seconds: float) -> None:
        told.append((step, text, row(engine, claim.id)["state"]))

    for _ in range(3):
        put(engine)
    verdicts = (DELIVERED, LATER, REFUSED)
    results = [outcome(*each) for each in zip(claim_all(store).claims, verdicts, strict=True)]
    Recorder(store, configuration(), ALERT_TIMES, note).record(results)
    assert told == [
        (Step.DELIVERED, "as the reply said", "delivered"),
        (Step.RETRIED, "as the reply said", "pending"),
        (Step.DEAD, "as the reply said", "dead"),
    ]


@on_sqlite_first
@pytest.mark.parametrize("verdict", [DELIVERED, REFUSED, LATER, TURNED_AWAY], ids=lambda v: type(v).__name__)
def test_a_late_result_changes_nothing(
    engine: Engine, store: Store, clock: Clock, caplog: pytest.LogCaptureFixture, verdict: Verdict
) -> None:
    message_id = put(engine)
    late = claim_one(store)
    clock.forward(2 * LEASE)
    assert swept(store).rescued == 1
    before = everything(engine)
    assert recorder(store).record([outcome(late, verdict)])
    assert everything(engine) == before
    assert f"message {message_id}: a late result of attempt 1 was dropped" in caplog.text


def test_a_late_result_changes_nothing_of_the_attempt_that_took_over(
    engine: Engine, store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    message_id = put(engine)
    late = claim_one(store)
    clock.forward(2 * LEASE)
    swept(store)
    current = claim_one(store)
    before = everything(engine)
    assert recorder(store).record([outcome(late, DELIVERED)])
    assert everything(engine) == before
    assert dropped_as_late(caplog)
    assert recorder(store).record([outcome(current, LATER)])
    assert attempts_of(engine, message_id) == [(1, "rescued"), (2, "retry")]


def test_a_late_result_takes_none_of_its_group_along(engine: Engine, store: Store, clock: Clock) -> None:
    late_id = put(engine)
    late = claim_one(store)
    clock.forward(2 * LEASE)
    swept(store)
    clock.forward(-2 * LEASE)
    good_id = put(engine)
    good = next(each for each in claim_all(store).claims if each.id == good_id)
    assert recorder(store).record([outcome(late, DELIVERED), outcome(good, DELIVERED)])
    assert row(engine, late_id)["state"] == "pending"
    assert row(engine, good_id)["state"] == "delivered"


@pytest.mark.parametrize("verdict", [REFUSED, LATER], ids=["dead", "waiting"])
def test_a_result_recorded_twice_is_recorded_once(
    engine: Engine, store: Store, caplog: pytest.LogCaptureFixture, verdict: Verdict
) -> None:
    put(engine)
    claimed = finish(store, verdict)
    before = everything(engine)
    assert recorder(store).record([outcome(claimed, verdict)])
    assert everything(engine) == before
    assert dropped_as_late(caplog)


@pytest.mark.parametrize("table", ["outbox_incident", "outbox_dead_letter", "outbox_attempt"])
def test_state_letter_incident_and_attempt_are_written_as_one(
    engine: Engine, store: Store, table: str
) -> None:
    put(engine)
    claimed = claim_one(store)
    before = everything(engine)
    with inserts_refused(engine, table):
        recorder(store).record([outcome(claimed, REFUSED)])
    assert everything(engine) == before
    recorder(store).record([outcome(claimed, REFUSED)])
    assert [len(rows(engine, each)) for each in (attempt, dead_letter, incident)] == [1, 1, 1]


def test_evidence_the_database_refuses_takes_no_neighbours_along(
    engine: Engine, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [put(engine) for _ in range(3)]
    good, bad, also_good = claim_all(store).claims
    unstorable = Reply(500, (("x", "y"),), b"\0")
    results = [outcome(good, DELIVERED), outcome(bad, REFUSED, unstorable), outcome(also_good, LATER)]
    with inserts_refused(engine, "outbox_attempt", when_reply=b"\0"):
        assert recorder(store).record(results)
    assert [row(engine, each)["state"] for each in ids] == ["delivered", "dead", "pending"]
    stored = [rows(engine, attempt, message_id=each)[0] for each in ids]
    assert [each["reply_body"] for each in stored] == [b"<ok/>", None, b"<ok/>"]
    assert (stored[1]["status"], stored[1]["reply_headers"], stored[1]["reply_complete"]) == (
        500,
        None,
        False,
    )
    assert stored[1]["verdict"] == "refused"
    assert "one by one" in caplog.text


def test_a_text_that_is_no_text_ends_its_message_all_the_same(engine: Engine, store: Store) -> None:
    ids = [put(engine) for _ in range(2)]
    bad, good = claim_all(store).claims
    garbled = Refused(why("items_failed", LONE_SURROGATE))
    assert recorder(store).record([outcome(bad, garbled), outcome(good, DELIVERED)])
    assert [row(engine, each)["state"] for each in ids] == ["dead", "delivered"]
    assert [each["text"] for each in rows(engine, dead_letter)] == ["bad ? text"]


def test_a_reply_header_that_is_no_text_keeps_nobody_from_being_recorded(
    engine: Engine, store: Store
) -> None:
    ids = [put(engine) for _ in range(2)]
    bad, good = claim_all(store).claims
    reply = Reply(200, (("x", LONE_SURROGATE),), b"<ok/>")
    assert recorder(store).record([outcome(bad, DELIVERED, reply), outcome(good, DELIVERED)])
    assert [row(engine, each)["state"] for each in ids] == ["delivered", "delivered"]


@on_sqlite
def test_many_results_take_no_more_statements_than_one(engine: Engine, store: Store) -> None:
    """Each lets go of the interpreter, which a busy event loop is slow to hand back."""
    seen: list[str] = []

    def recorded(number: int) -> int:
        for n in range(number):
            put(engine, key=f"order:{number}-{n}")
        claims = claim_all(store).claims
        with engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            driver.set_trace_callback(seen.append)
        seen.clear()
        assert recorder(store).record([outcome(each, DELIVERED) for each in claims])
        driver.set_trace_callback(None)
        return len(seen)

    assert recorded(1) == recorded(50) > 5


@on_sqlite
def test_while_the_database_is_locked_results_wait(
    engine: Engine, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    message_id = put(engine)
    claimed = claim_one(store)
    other = another_connection(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 20")
    recording = recorder(store)
    with other.begin():
        assert not recording.record([outcome(claimed, DELIVERED)])
        assert not recording.record([outcome(claimed, DELIVERED)])
        assert recording.is_stuck
    assert row(engine, message_id)["state"] == "sending"
    assert recording.record([outcome(claimed, DELIVERED)])
    assert not recording.is_stuck
    assert row(engine, message_id)["state"] == "delivered"
    assert caplog.text.count("results cannot be written") == 1
    assert caplog.text.count("results are written again") == 1
    other.dispose()


@on_postgresql
def test_while_the_disk_is_full_results_wait(engine: Engine, store: Store) -> None:
    message_id = put(engine)
    claimed = claim_one(store)
    recording = recorder(store)
    with inserts_refused(engine, "outbox_attempt", because="disk_full"):
        assert not recording.record([outcome(claimed, DELIVERED)])
        assert recording.is_stuck
    assert recording.record([outcome(claimed, DELIVERED)])
    assert row(engine, message_id)["state"] == "delivered"


def refuse_in_a_row(engine: Engine, store: Store, verdicts: list[Verdict]) -> None:
    for verdict in verdicts:
        message_id = put(engine)
        claimed = next(each for each in claim_all(store).claims if each.id == message_id)
        assert recorder(store).record([outcome(claimed, verdict)])


@on_sqlite_first
def test_three_refusals_in_a_row_hold_the_destination_and_open_one_incident(
    engine: Engine, store: Store, clock: Clock
) -> None:
    refuse_in_a_row(engine, store, [TURNED_AWAY, TURNED_AWAY])
    assert rows(engine, gate)[0]["state"] == "open"
    assert rows(engine, incident) == []
    refuse_in_a_row(engine, store, [TURNED_AWAY, TURNED_AWAY])
    (held,) = rows(engine, gate)
    (opened,) = rows(engine, incident)
    assert (held["state"], held["reason"], held["changed_by"]) == ("held", "http_401", "the service")
    assert (opened["cause"], opened["occurrences"], opened["operation"]) == ("destination-held", 1, "")
    assert opened["alert_due_at"] == clock.now + ALERT_TIMES.grouping


@on_postgresql_first
def test_three_refusals_in_one_group_hold_the_destination(engine: Engine, store: Store) -> None:
    for _ in range(3):
        put(engine)
    recorder(store).record([outcome(each, TURNED_AWAY) for each in claim_all(store).claims])
    assert rows(engine, gate)[0]["state"] == "held"


@on_postgresql_first
@pytest.mark.parametrize("normal", [DELIVERED, REFUSED, LATER], ids=lambda v: type(v).__name__)
def test_a_normal_reply_in_between_starts_the_count_anew(
    engine: Engine, store: Store, normal: Verdict
) -> None:
    refuse_in_a_row(engine, store, [TURNED_AWAY, TURNED_AWAY, normal, TURNED_AWAY, TURNED_AWAY])
    (known,) = rows(engine, gate)
    assert (known["state"], known["refusals_in_a_row"]) == ("open", 2)


@on_sqlite_first
def test_no_reply_at_all_leaves_the_count_of_refusals_alone(engine: Engine, store: Store) -> None:
    refuse_in_a_row(engine, store, [TURNED_AWAY, TURNED_AWAY])
    put(engine)
    (claimed,) = claim_all(store).claims
    recorder(store).record([replace(outcome(claimed, LATER), reply=None)])
    assert rows(engine, gate)[0]["refusals_in_a_row"] == 2


def three_of_a_key(engine: Engine, store: Store, **others: str) -> tuple[Claim, int, int]:
    """Enqueue three messages of one key, claim the first and leave the others parked."""
    _, second, third = (put(engine, key="order:1", **others) for _ in range(3))
    first = claim_one(store)
    assert [row(engine, each)["due_at"] for each in (second, third)] == [None, None]
    return first, second, third


def test_delivery_makes_the_next_of_its_key_due_and_only_that(
    engine: Engine, store: Store, clock: Clock
) -> None:
    first, second, third = three_of_a_key(engine, store)
    recorder(store).record([outcome(first, DELIVERED)])
    assert row(engine, second)["due_at"] == clock.now
    assert row(engine, third)["due_at"] is None
    assert [each.id for each in claim_all(store).claims] == [second]


@on_sqlite_first
def test_a_dead_letter_goes_on_blocking_its_key(engine: Engine, store: Store) -> None:
    first, second, _ = three_of_a_key(engine, store)
    recorder(store).record([outcome(first, REFUSED)])
    assert (row(engine, first.id)["state"], row(engine, first.id)["blocks"]) == ("dead", True)
    assert row(engine, second)["due_at"] is None
    assert claim_all(store).claims == []


@on_sqlite_first
def test_a_dead_letter_of_an_operation_that_may_be_passed_lets_its_key_go_on(
    engine: Engine, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.recorder.when_dead", lambda *_: WhenDead.PASS)
    first, second, _ = three_of_a_key(engine, store)
    recorder(store).record([outcome(first, REFUSED)])
    assert (row(engine, first.id)["state"], row(engine, first.id)["blocks"]) == ("dead", False)
    assert row(engine, second)["due_at"] == clock.now


@on_sqlite_first
def test_a_retry_goes_on_blocking_its_key(engine: Engine, store: Store) -> None:
    first, second, _ = three_of_a_key(engine, store)
    recorder(store).record([outcome(first, LATER)])
    assert row(engine, second)["due_at"] is None


def test_letters_of_one_cause_share_an_incident_and_those_of_others_do_not(
    engine: Engine, store: Store
) -> None:
    for reason in ("items_failed", "items_failed", "not_understood"):
        bury(store, engine, reason)
    assert [(each["reason"], each["occurrences"]) for each in rows(engine, incident)] == [
        ("items_failed", 2),
        ("not_understood", 1),
    ]


@on_sqlite_first
def test_the_attempt_tells_the_request_the_reply_and_the_verdict(
    engine: Engine, store: Store, clock: Clock
) -> None:
    message_id = put(engine)
    reply = Reply(422, (("content-type", "text/xml"), ("x", "1"), ("x", "2")), b"<no/>\xff")
    finish(store, REFUSED, reply=reply, started_after=1.5, seconds=0.25)
    (logged,) = rows(engine, attempt, message_id=message_id)
    assert (logged["request_line"], logged["status"]) == ("POST http://127.0.0.1:1/web", 422)
    assert (logged["reply_body"], logged["reply_complete"]) == (b"<no/>\xff", True)
    assert logged["reply_headers"] == [["content-type", "text/xml"], ["x", "1"], ["x", "2"]]
    assert (logged["rule"], logged["reason"], logged["error"]) == (
        "a-rule",
        "items_failed",
        "as the reply said",
    )
    assert logged["started_at"] == clock.now + timedelta(seconds=1.5)
    assert logged["finished_at"] == clock.now + timedelta(seconds=1.75)


@on_sqlite_first
def test_no_credential_is_in_the_attempt_row(engine: Engine, store: Store) -> None:
    put(engine, headers={"X-Trace": "7"})
    claimed = claim_one(store)
    main = destinations()["main"].model_copy(update={"authentication": "both"})
    request = RequestBuilder(main).build(claimed, PREDEFINED["order-import"])
    recorder(store).record([replace(outcome(claimed, DELIVERED), request=request)])
    (logged,) = rows(engine, attempt)
    headers = logged["request_headers"]
    assert (headers["Authorization"], headers["password"]) == (MASKED, MASKED)
    assert headers["X-Trace"] == "7"
    for secret in (request.headers["Authorization"], request.headers["password"], "demo"):
        assert secret not in str(dict(logged))


@on_postgresql_first
@pytest.mark.parametrize(
    ("length", "whole"), [(0, True), (MAX_STORED_REPLY_BYTES, True), (MAX_STORED_REPLY_BYTES + 1, False)]
)
def test_a_reply_is_stored_up_to_64_kib_and_marked_incomplete_beyond(
    engine: Engine, store: Store, length: int, whole: bool
) -> None:
    assert MAX_STORED_REPLY_BYTES == 64 * 1024
    put(engine)
    finish(store, DELIVERED, reply=Reply(200, (), b"x" * length))
    (logged,) = rows(engine, attempt)
    assert logged["reply_body"] == b"x" * min(length, MAX_STORED_REPLY_BYTES)
    assert logged["reply_complete"] is whole


@on_sqlite_first
def test_a_reply_that_was_cut_off_is_marked_incomplete(engine: Engine, store: Store) -> None:
    put(engine)
    finish(store, LATER, reply=Reply(200, (), b"<resu", complete=False))
    assert rows(engine, attempt)[0]["reply_complete"] is False


@on_sqlite_first
def test_a_flood_of_reply_headers_is_stored_in_part(engine: Engine, store: Store) -> None:
    put(engine)
    flood = tuple((f"x-{n}", "y") for n in range(MAX_STORED_HEADERS + 1))
    finish(store, DELIVERED, reply=Reply(200, flood, b""))
    assert len(rows(engine, attempt)[0]["reply_headers"]) == MAX_STORED_HEADERS


def test_two_engines_recording_at_once_lose_no_result_and_no_count(engine: Engine, clock: Clock) -> None:
    ids = [put(engine) for _ in range(20)]
    claims = claim_all(Store(engine, clock)).claims
    both = threading.Barrier(2)

    def record(mine: list[Claim]) -> None:
        store = Store(another_connection(engine), clock)
        both.wait()
        for each in mine:
            assert recorder(store).record([outcome(each, REFUSED)])
        store.close()

    threads = [threading.Thread(target=record, args=(claims[half::2],)) for half in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row(engine, each)["state"] for each in ids] == ["dead"] * 20
    assert [each["occurrences"] for each in rows(engine, incident)] == [20]
