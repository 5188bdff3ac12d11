"""The engine against a real receiver: what it sends, in which order, and what it makes of the answers."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

import config
from orderflow_outbox import Operation, enqueue, hint_after_commit
from orderflow_outbox.tables import dead_letter, gate, incident, message
from simulator import Options
from tasks.app import make_app
from tests.databases import on_postgresql_first, on_sqlite_first
from tests.documents import order
from tests.rig import Place, engine_of, eventually, rig
from worker import room
from worker.attempting import Attempter
from worker.broker import EmbeddedBroker
from worker.by_hand import resume
from worker.deliveries import Claim, Outcome, Request
from worker.looking import Look, Looker
from worker.recorder import Recorder
from worker.requests import RequestBuilder
from worker.store.transactions import Store
from worker.transport import Transport


def test_a_delivered_message_reached_the_receiver_as_it_was_given(place: Place) -> None:
    options = Options(channels=("web",), user="shop", password="demo")
    with rig(place, options) as made:
        document = '<?xml version="1.0" encoding="UTF-8"?>\n' + order("SO-Ü")
        with made.engine.begin() as connection:
            stored = enqueue(connection, "order-import", document, channel="web", idempotency_key="k-1")
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        (request,) = made.simulator.ledger.requests
        assert request.identity == "k-1"
        assert request.channel == "web"
        assert request.path == "/web/remoteorder/imports/importitems.xml"
        (row,) = made.attempts(stored.id)
        assert (row.n, row.status, row.verdict, row.rule) == (1, 200, "delivered", "item-report")
        assert b"importSuccesses" in row.reply_body
        assert row.request_headers["Authorization"] == "********"


def test_an_exhausted_message_dies_with_a_letter_and_an_incident(place: Place) -> None:
    with rig(place, Options(faults=["500"]), retry_after=["50ms", "50ms"]) as made:
        stored = made.order("SO-1")
        with engine_of(made):
            eventually(lambda: made.states() == {"dead"})
        attempts = made.attempts(stored.id)
        assert [each.verdict for each in attempts] == ["retry"] * 3, "two waits make three tries"
        with made.engine.connect() as connection:
            letter = connection.execute(select(dead_letter)).one()
            opened = connection.execute(select(incident)).one()
        assert (letter.message_id, letter.reason, letter.incident_id) == (stored.id, "http_500", opened.id)
        assert "after 3 tries" in letter.text
        assert not letter.in_doubt


@on_postgresql_first
@pytest.mark.parametrize(
    ("fault", "rule", "in_doubt"),
    [
        ("error-page", "error-page", False),
        ("exception", "exception", False),
        ("maintenance", "unknown-body", False),
        ("unavailable", "busy", False),
        ("missing", "turned-away", False),
        ("moved", "turned-away", False),
        ("hang", "no-answer", True),
        ("cut", "cut-short", True),
    ],
)
def test_an_order_arrives_once_past_each_kind_of_trouble(
    place: Place, monkeypatch: pytest.MonkeyPatch, fault: str, rule: str, in_doubt: bool
) -> None:
    monkeypatch.setattr("worker.settling.HOLD_WAIT", timedelta(milliseconds=50))
    with rig(place, Options(faults=[f"{fault}:times=1"])) as made:
        stored = made.order("SO-1")
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        first, last = made.attempts(stored.id)
        assert (first.rule, first.in_doubt) == (rule, in_doubt)
        assert (last.verdict, last.in_doubt) == ("delivered", False)
        assert [each.reference for each in made.simulator.ledger.accepted] == ["SO-1"]


@on_postgresql_first
def test_a_message_processed_without_an_answer_is_in_doubt_until_its_duplicate_settles_it(
    place: Place,
) -> None:
    with rig(place, Options(faults=["silent:times=2"]), lease=6, attempt_deadline="2s") as made:
        stored = made.order("SO-1")
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        attempts = made.attempts(stored.id)
        assert [each.in_doubt for each in attempts] == [True, True, False]
        assert attempts[-1].reason == "duplicate"
        assert len(made.simulator.ledger.accepted) == 1
        assert {each.identity for each in made.simulator.ledger.requests} == {stored.idempotency_key}
        assert len({each.sha256 for each in made.simulator.ledger.requests}) == 1


@on_sqlite_first
def test_a_message_that_dies_after_a_lost_answer_says_that_it_is_in_doubt(place: Place) -> None:
    with rig(place, Options(faults=["silent"]), retry_after=["50ms"]) as made:
        made.order("SO-1")
        with engine_of(made):
            eventually(lambda: made.states() == {"dead"})
        with made.engine.connect() as connection:
            assert connection.execute(select(dead_letter.c.in_doubt)).scalar_one()


@on_sqlite_first
def test_a_connection_refused_leaves_no_doubt(place: Place) -> None:
    with rig(place, retry_after=["50ms"]) as made:
        made.simulator.stop()
        stored = made.order("SO-1")
        with engine_of(made):
            eventually(lambda: made.states() == {"dead"})
        attempts = made.attempts(stored.id)
        assert [each.reason for each in attempts] == ["connect_failed"] * 2
        assert not any(each.in_doubt for each in attempts)


def test_a_later_message_of_a_key_never_overtakes_an_earlier_one(place: Place) -> None:
    with rig(place, Options(faults=["500:operation=order-import,reference=SO-1,times=2"])) as made:
        made.order("SO-1", key="order:SO-1")
        with made.engine.begin() as connection:
            enqueue(
                connection,
                "order-cancel",
                channel="web",
                key="order:SO-1",
                query={"externalReference": "SO-1"},
            )
        made.order("SO-2", key="order:SO-2")
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        done = [each.operation for each in made.simulator.ledger.requests if "SO-1" in each.references]
        assert done == ["order-import"] * 3 + ["order-cancel"]
        first = {each.reference: each.request for each in reversed(made.simulator.ledger.accepted)}
        assert first["SO-2"] < first["SO-1"], "another key does not wait"


def test_the_next_of_a_key_is_sent_as_soon_as_the_one_before_is_recorded(place: Place) -> None:
    keys, of_each = 5, 30
    with rig(place) as made:
        for n in range(keys * of_each):
            made.order(f"SO-{n}", key=f"key-{n % keys}")
        with engine_of(made):
            # An engine that looks for the next when it is idle, each second, takes twice as long and more.
            eventually(lambda: made.states() == {"delivered"}, of_each / 4)


@on_sqlite_first
def test_a_wrong_password_holds_the_destination_and_spends_no_try(place: Place) -> None:
    with rig(place, Options(password="changed"), window=1) as made:
        for n in range(5):
            made.order(f"SO-{n}")

        def held() -> bool:
            with made.engine.connect() as connection:
                return connection.execute(select(gate.c.state)).scalar_one_or_none() == "held"

        with engine_of(made):
            eventually(held)
            eventually(lambda: made.states() == {"pending"})
            seen = len(made.simulator.ledger.requests)
            assert 3 <= seen <= 5, "two more may have been claimed before the third was judged"
            with made.engine.connect() as connection:
                assert connection.execute(select(incident.c.cause)).scalars().all() == ["destination-held"]
            assert {row.tries for row in made.rows()} == {0}
            made.order("SO-5")
            resume(Store(made.engine), "main", by="test", why="the password is mended")
            eventually(lambda: len(made.simulator.ledger.requests) > seen)


def test_a_message_past_its_end_is_never_sent(place: Place) -> None:
    with rig(place) as made:
        made.order("SO-1", expires_at=datetime.now(UTC) + timedelta(days=1))
        with made.engine.begin() as connection:
            connection.execute(update(message).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
        with engine_of(made):
            eventually(lambda: made.states() == {"dead"})
        assert made.simulator.ledger.requests == []
        with made.engine.connect() as connection:
            assert connection.execute(select(dead_letter.c.reason)).scalar_one() == "expired"


@on_sqlite_first
def test_a_message_that_expires_while_it_waits_its_turn_is_not_sent(place: Place) -> None:
    options = Options(faults=["slow:1.0:delay=0.4"])
    with rig(place, options, window=1) as made:
        made.order("SO-0")
        made.order("SO-1", expires_at=datetime.now(UTC) + timedelta(seconds=0.7))
        made.order("SO-2")
        with made.engine.begin() as connection:
            soon = datetime.now(UTC) + timedelta(seconds=0.35)
            connection.execute(update(message).where(message.c.id == 2).values(expires_at=soon))
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered", "dead"})
        assert [row.state for row in made.rows()] == ["delivered", "dead", "delivered"]
        assert {each.reference for each in made.simulator.ledger.accepted} == {"SO-0", "SO-2"}


@on_sqlite_first
def test_a_message_of_an_unknown_operation_dies_and_takes_nobody_along(place: Place) -> None:
    with rig(place) as made:
        strange = made.order("SO-1")
        with made.engine.begin() as connection:
            connection.execute(update(message).values(operation="order-teleport"))
        made.order("SO-2")
        with engine_of(made):
            eventually(lambda: "pending" not in made.states() and "sending" not in made.states())
        assert [row.state for row in made.rows()] == ["dead", "delivered"]
        with made.engine.connect() as connection:
            letter = connection.execute(select(dead_letter)).one()
        assert (letter.message_id, letter.reason) == (strange.id, "unknown_operation")


@on_sqlite_first
def test_no_request_begins_that_could_outlive_its_lease(place: Place) -> None:
    with rig(place) as made:
        made.order("SO-1")
        configuration = config.load(made.file)
        lease = configuration.settings.engine.lease
        look = Looker(Store(made.engine), lease).look({"main": 1})

        async def attempt(lease_ends: float) -> bool:
            async with Transport() as transport:
                attempter = Attempter(configuration, transport, lease)
                outcome = await attempter.attempt(look.claims[0], lease_ends)
                return outcome.request is not None

        assert not asyncio.run(attempt(time.monotonic() + 0.5))
        assert made.simulator.ledger.requests == []
        assert asyncio.run(attempt(look.lease_ends))
        assert len(made.simulator.ledger.requests) == 1


@on_postgresql_first
@pytest.mark.parametrize("window", [1, 3])
def test_requests_in_progress_stay_within_the_window(place: Place, window: int) -> None:
    with rig(place, Options(faults=["slow:1.0:delay=0.05"]), window=window) as made:
        made.orders(10 * (1 + window))
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        assert made.simulator.ledger.summary()["most_in_progress"] == window


HANGS_ONCE = """
import pathlib, sys, time
hanging, told = map(pathlib.Path, sys.argv[1:])
if not told.exists():
    hanging.touch()
    while hanging.exists():
        time.sleep(0.02)
with told.open("a") as file:
    file.write(sys.stdin.read() + chr(10))
"""


@on_sqlite_first
def test_a_hanging_alert_hook_delays_no_delivery_and_hears_of_each_letter_once(place: Place) -> None:
    hanging, told = place.folder / "hanging", place.folder / "told.jsonl"
    command = [sys.executable, "-S", "-c", HANGS_ONCE, str(hanging), str(told)]
    hooks = f'[{{ command = {json.dumps(command)} }}]\ntimeout = "60s"\nreminder = "1s"'
    with rig(place, Options(missing_products=["SKU-9"]), hooks=hooks) as made, engine_of(made):

        def die(reference: str) -> None:
            with made.engine.begin() as connection:
                enqueue(connection, "order-import", order(reference, sku="SKU-9"), channel="web")

        die("SO-BAD-0")
        eventually(hanging.exists)
        for n in range(1, 5):
            die(f"SO-BAD-{n}")
        made.orders(20)
        eventually(lambda: Counter(row.state for row in made.rows()) == {"delivered": 20, "dead": 5})
        assert hanging.exists(), "all of it while the hook hung"
        hanging.unlink()

        def heard() -> list[int]:
            lines = told.read_text().splitlines() if told.exists() else []
            return [json.loads(line)["new_occurrences"] for line in lines]

        eventually(lambda: sum(heard()) >= 5)
        assert heard()[:2] == [1, 4]


@on_sqlite_first
def test_a_hint_wakes_a_sleeping_engine(place: Place) -> None:
    with rig(place) as made, engine_of(made) as thread:
        begun = time.monotonic()
        for n in range(10):
            made.order(f"SO-{n}")
            thread.wake()
            eventually(lambda: made.states() == {"delivered"})
        assert time.monotonic() - begun < 8, "ten sleeps of a second each would take ten"


@on_postgresql_first
def test_an_engine_with_its_hands_full_of_bytes_goes_on_once_results_are_written(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_BYTES_IN_HAND", 5 * len(order("SO-0").encode()))
    with rig(place) as made:
        made.orders(30)
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})


@on_sqlite_first
def test_a_commit_in_the_shop_wakes_a_worker_by_way_of_the_broker(place: Place) -> None:
    with rig(place) as made, EmbeddedBroker(place.folder / "state"), made.worker() as worker:
        app = make_app(config.load_settings(made.file))
        hints = hint_after_commit(made.engine, app)
        eventually(lambda: worker.said(" ready."))
        begun = time.monotonic()
        for n in range(10):
            made.order(f"SO-{n}")
            eventually(lambda: made.states() == {"delivered"})
        assert time.monotonic() - begun < 8, "ten sleeps of a second each would take ten"
        eventually(lambda: hints.sent + hints.suppressed + hints.failed == 10)
        assert hints.sent > 0


@on_postgresql_first
def test_a_frozen_broker_holds_a_shop_for_less_than_a_second(place: Place) -> None:
    with rig(place) as made, EmbeddedBroker(place.folder / "state") as broker:
        app = make_app(config.load_settings(made.file))
        hints = hint_after_commit(made.engine, app)
        made.order("SO-0")
        assert hints.sent == 1
        assert broker._process is not None
        broker._process.send_signal(signal.SIGSTOP)  # it accepts connections and never answers
        for n in range(1, 4):
            begun = time.monotonic()
            made.order(f"SO-{n}")
            assert time.monotonic() - begun < 1
        broker._process.send_signal(signal.SIGCONT)
        assert len(made.rows()) == 4


@on_sqlite_first
def test_a_broker_that_is_down_holds_a_shop_for_less_than_a_second(place: Place) -> None:
    with rig(place) as made:
        app = make_app(config.load_settings(made.file))
        hints = hint_after_commit(made.engine, app)
        begun = time.monotonic()
        made.order("SO-1")
        assert time.monotonic() - begun < 1
        eventually(lambda: hints.failed == 1)


@on_sqlite_first
def test_a_request_that_cannot_be_made_spends_tries_and_keeps_nothing_from_being_sent(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by = RequestBuilder.build

    def build(self: RequestBuilder, claim: Claim, operation: Operation) -> Request:
        if claim.idempotency_key == "key-1":
            raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
        return made_by(self, claim, operation)

    monkeypatch.setattr(RequestBuilder, "build", build)
    with rig(place, retry_after=["20ms", "20ms"]) as made:
        made.orders(5)
        with engine_of(made):
            eventually(lambda: [row.state for row in made.rows()].count("dead") == 1)
            eventually(lambda: [row.state for row in made.rows()].count("delivered") == 4)
        (dead,) = [row for row in made.rows() if row.state == "dead"]
        assert (dead.idempotency_key, dead.tries, dead.in_doubt) == ("key-1", 3, False)


@on_postgresql_first
def test_an_engine_whose_recording_breaks_is_replaced_by_another(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded, broken = Recorder.record, []

    def record(self: Recorder, outcomes: Sequence[Outcome]) -> bool:
        if not broken:
            broken.append(True)
            raise ZeroDivisionError
        return recorded(self, outcomes)

    monkeypatch.setattr(Recorder, "record", record)
    monkeypatch.setattr("worker.engine_thread.RESTART_SECONDS", 0.05)
    with rig(place, attempt_deadline="500ms") as made:
        made.orders(5)
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
    assert broken


@on_sqlite_first
def test_a_woken_engine_looks_once_more_however_long_the_first_look_takes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, looks, rested = Looker.look, [], []

    def look(self: Looker, room: Mapping[str, int], *, expecting: bool = False) -> Look:
        found = looked(self, room, expecting=expecting)
        if expecting and not looks:
            looks.append(made.order("SO-UNHEARD"))  # while the first look is under way, and without a hint
            time.sleep(1.2)
        rested.append(True)
        return found if found.claims else replace(found, wait=60.0)

    monkeypatch.setattr(Looker, "look", look)
    monkeypatch.setattr("worker.engine.LOOK_AGAIN_SECONDS", 1.0)  # so long no machine is held up
    with rig(place) as made, engine_of(made) as engine:
        eventually(lambda: rested)
        engine.wake()
        eventually(lambda: made.states() == {"delivered"}, seconds=20)
