"""What no message can tell is watched for: silent engines, waiting messages, disks that fill."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

import config
from config import AlertSettings, Configuration, Pause, Settings
from orderflow_outbox.tables import engine_seen, incident, last_delivery
from simulator import Options
from tests.databases import on_sqlite, on_sqlite_first
from tests.desks import Desk, write_at_once
from tests.nursery import Program
from tests.rig import Place, engine_of, eventually, rig
from tests.shell import Shell
from tests.steps import (
    ALERT_TIMES,
    DAY,
    DELIVERED,
    SECOND,
    Clock,
    claim_all,
    claim_one,
    configuration,
    finish,
    outcome,
    put,
    recorder,
    rows,
    set_row,
    why,
)
from worker import watching as acting
from worker.alerts import send_due_alerts
from worker.by_hand import cancel, hold, resume
from worker.identity import MACHINE, new_engine_name
from worker.ports import Step, announce_nothing
from worker.pulse import Pulse
from worker.store import gates, watching
from worker.store.causes import BREAKER_OPEN, note_incident, resolve_incidents
from worker.store.transactions import Store
from worker.store.watching import Cause, EngineSeen, Facts, Failing, OldestDue
from worker.troubles import Disks, findings
from worker.verdicts import RetryLater, Verdict
from worker.watching import disks_of, watch
from worker.watchman import Watchman

NOW = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SETTINGS = AlertSettings()
ALIVE = EngineSeen("web-1", NOW - SECOND, NOW - SECOND)
DEAD = EngineSeen("web-1", NOW - SETTINGS.silence, NOW - SETTINGS.silence)
QUIET = Facts(NOW, [ALIVE], [], {}, frozenset(), {})


NIGHTLY = Pause(begin=time(2), end=time(3), zone=ZoneInfo("UTC"))


def due(minutes: float, destination: str = "main") -> OldestDue:
    return OldestDue(destination, 7, "order-import", NOW - minutes * MINUTE)


def failing(minutes: float, last: float = 1, destination: str = "main") -> Failing:
    return Failing(destination, 7, "order-import", NOW - minutes * MINUTE, NOW - last * MINUTE)


def delivered(minutes: float) -> dict[str, datetime]:
    return {"main": NOW - minutes * MINUTE}


def cause(code: str, destination: str = "main", operation: str = "", reason: str = "") -> Cause:
    return Cause(code, destination, operation, reason or code.replace("-", "_"))


def found(facts: Facts, disks: Disks | None = None) -> list[str]:
    return [each.cause.code for each in findings(facts, SETTINGS, {"main": [NIGHTLY]}, disks).there]


def over(facts: Facts, *open_causes: Cause, disks: Disks | None = None) -> list[Cause]:
    facts = replace(facts, open=dict.fromkeys(open_causes, NOW))
    return list(findings(facts, SETTINGS, {"main": [NIGHTLY]}, disks).over)


# The decision


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (QUIET, []),
        (replace(QUIET, oldest_due=[due(14.9)]), []),
        (replace(QUIET, oldest_due=[due(15)]), ["nothing-delivered"]),
        (replace(QUIET, oldest_due=[due(15)], last_deliveries=delivered(1)), ["oldest-due"]),
        (replace(QUIET, oldest_due=[due(15)], last_deliveries=delivered(14.9)), ["oldest-due"]),
        (replace(QUIET, oldest_due=[due(90)], last_deliveries=delivered(15)), ["nothing-delivered"]),
        (replace(QUIET, oldest_due=[due(1)], last_deliveries=delivered(90)), []),
        (replace(QUIET, last_deliveries=delivered(90)), []),
        (replace(QUIET, oldest_due=[due(90)], stopped=frozenset({"main"})), []),
        (replace(QUIET, failing=[failing(14.9)]), []),
        (replace(QUIET, failing=[failing(15)]), ["nothing-delivered"]),
        (replace(QUIET, failing=[failing(90)], last_deliveries=delivered(14.9)), []),
        (replace(QUIET, failing=[failing(90)], last_deliveries=delivered(15)), ["nothing-delivered"]),
        (replace(QUIET, failing=[failing(90, last=15)]), []),
        (replace(QUIET, failing=[failing(90)], oldest_due=[due(1)]), ["nothing-delivered"]),
        (replace(QUIET, failing=[failing(90)], stopped=frozenset({"main"})), []),
        (replace(QUIET, failing=[failing(90)], engines=[DEAD]), ["engines-silent"]),
        (replace(QUIET, failing=[failing(90, destination="gone")]), []),
        (replace(QUIET, oldest_due=[due(90, "gone")]), ["oldest-due"]),
        (replace(QUIET, engines=[DEAD]), ["engines-silent"]),
        (replace(QUIET, engines=[DEAD, ALIVE]), []),
        (replace(QUIET, engines=[DEAD], oldest_due=[due(90)]), ["engines-silent"]),
        (replace(QUIET, engines=[]), []),
        (replace(QUIET, engines=[], oldest_due=[due(1.9)]), []),
        (replace(QUIET, engines=[], oldest_due=[due(2)]), ["engines-silent"]),
        (replace(QUIET, engines=[replace(ALIVE, swept_at=NOW - 3 * MINUTE)]), ["sweeps-silent"]),
        (replace(QUIET, engines=[replace(ALIVE, swept_at=NOW - 2.9 * MINUTE)]), []),
        (replace(QUIET, engines=[replace(ALIVE, swept_at=NOW - 3 * MINUTE), ALIVE]), []),
    ],
)
def test_one_trouble_is_told_and_not_what_it_explains(facts: Facts, told: list[str]) -> None:
    assert found(facts) == told


def at_night(hour: int, minute: int, *, due_at: tuple[int, int], delivered_at: tuple[int, int]) -> Facts:
    """Return how things stand on the night with a pause from 02:00 to 03:00."""

    def moment(hour: int, minute: int) -> datetime:
        return NOW.replace(hour=hour, minute=minute)

    now = moment(hour, minute)
    return Facts(
        now,
        [EngineSeen("web-1", now, now)],
        [replace(due(0), due_at=moment(*due_at))],
        {"main": moment(*delivered_at)},
        frozenset(),
        {},
    )


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (at_night(2, 59, due_at=(1, 50), delivered_at=(1, 55)), []),
        (at_night(2, 59, due_at=(2, 10), delivered_at=(1, 55)), []),
        (at_night(3, 14, due_at=(2, 10), delivered_at=(1, 55)), []),
        (at_night(3, 15, due_at=(2, 10), delivered_at=(1, 55)), ["nothing-delivered"]),
        (at_night(3, 15, due_at=(2, 10), delivered_at=(3, 1)), ["oldest-due"]),
        (at_night(3, 16, due_at=(3, 2), delivered_at=(1, 55)), []),
    ],
)
def test_what_the_calendar_keeps_from_a_destination_has_not_waited_meanwhile(
    facts: Facts, told: list[str]
) -> None:
    assert found(facts) == told
    open_ones = over(facts, WAITS, STANDS)
    assert not (open_ones and facts.now.hour == 2), "nothing can be said of it during the pause"


WAITS, STANDS = cause("oldest-due"), cause("nothing-delivered")
ENGINES, SWEEPS = cause("engines-silent", ""), cause("sweeps-silent", "")


@pytest.mark.parametrize(
    ("facts", "gone"),
    [
        (QUIET, {WAITS, STANDS, ENGINES, SWEEPS}),
        (replace(QUIET, oldest_due=[due(1)]), {WAITS, STANDS, ENGINES, SWEEPS}),
        (replace(QUIET, oldest_due=[due(90)]), {ENGINES, SWEEPS}),
        (replace(QUIET, oldest_due=[due(90)], last_deliveries=delivered(1)), {STANDS, ENGINES, SWEEPS}),
        (replace(QUIET, oldest_due=[due(90)], stopped=frozenset({"main"})), {ENGINES, SWEEPS}),
        (replace(QUIET, failing=[failing(90, last=15)]), {WAITS, ENGINES, SWEEPS}),
        (replace(QUIET, failing=[failing(1)]), {WAITS, ENGINES, SWEEPS}),
        (
            replace(QUIET, failing=[failing(90)], last_deliveries=delivered(1)),
            {WAITS, STANDS, ENGINES, SWEEPS},
        ),
        (replace(QUIET, oldest_due=[due(90)], engines=[DEAD]), set()),
        (replace(QUIET, engines=[replace(ALIVE, swept_at=NOW - 3 * MINUTE)]), {WAITS, STANDS, ENGINES}),
    ],
)
def test_an_incident_is_over_once_its_cause_is_gone_and_not_when_another_covers_it(
    facts: Facts, gone: set[Cause]
) -> None:
    assert set(over(facts, WAITS, STANDS, ENGINES, SWEEPS)) == gone


FULL = Cause("disk-nearly-full", "", "web-1", "state_dir")


@pytest.mark.parametrize(
    ("free", "is_told", "is_over"),
    [(0.049, True, False), (0.05, False, False), (0.054, False, False), (0.056, False, True)],
)
def test_a_disk_is_nearly_full_until_there_is_some_more_room_than_the_limit(
    free: float, is_told: bool, is_over: bool
) -> None:
    disks = Disks("web-1", {"state_dir": free})
    assert found(QUIET, disks) == (["disk-nearly-full"] if is_told else [])
    assert over(QUIET, FULL, disks=disks) == ([FULL] if is_over else [])


def test_the_disk_of_another_machine_is_left_to_its_own_engines_while_it_has_any() -> None:
    here = Disks("web-2", {"state_dir": 0.5})
    assert over(QUIET, FULL, disks=here) == []
    assert over(QUIET, FULL, disks=None) == []
    elsewhere = replace(QUIET, engines=[replace(ALIVE, machine="web-2")])
    assert over(elsewhere, FULL, disks=here) == [FULL]


# The real thing


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    write_at_once(monkeypatch)
    return Desk(tmp_path)


class Watched:
    """A store that is looked at and whose alerts go out, at moments the test chooses."""

    def __init__(self, store: Store, clock: Clock, desk: Desk) -> None:
        self.store, self.clock, self.desk = store, clock, desk
        self.pulse = Pulse(announce_nothing, new_engine_name(), lambda: clock.now.timestamp())
        self.free = 0.5

    def look(self, after: timedelta = timedelta(), alive: bool = True) -> None:
        self.clock.forward(after)
        if alive:
            self.pulse.swept()
            self.pulse.write(self.store)
        watch(
            self.store,
            configuration(),
            ALERT_TIMES,
            lambda _settings: Disks(MACHINE, {"database": self.free}),
        )
        send_due_alerts(
            self.store,
            AlertSettings(
                grouping=ALERT_TIMES.grouping, reminder=ALERT_TIMES.reminder, hooks=[self.desk.hook]
            ),
        )

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(each["cause"], each["kind"]) for each in self.desk.told]


@pytest.fixture
def watched(store: Store, clock: Clock, desk: Desk) -> Watched:
    return Watched(store, clock, desk)


def test_a_destination_that_nothing_is_delivered_to_is_told_and_told_to_be_over(
    engine: Engine, store: Store, clock: Clock, watched: Watched
) -> None:
    message_id = put(engine)
    watched.look()
    watched.look(SETTINGS.nothing_delivered - 2 * MINUTE)
    assert rows(engine, incident) == []
    watched.look(MINUTE + SECOND)
    watched.look(ALERT_TIMES.grouping)
    (alert,) = watched.desk.told
    assert (alert["cause"], alert["severity"]) == ("nothing-delivered", "critical")
    assert (alert["destination"], alert["sample_message"]) == ("main", message_id)
    assert alert["text"].startswith("Nothing is delivered to main: no delivery was ever noted, and message")
    finish(store, DELIVERED)
    watched.look(SECOND)
    assert watched.told == [("nothing-delivered", "opened"), ("nothing-delivered", "resolved")]


@on_sqlite_first
def test_a_destination_at_which_every_attempt_fails_is_told_and_told_to_be_over(
    engine: Engine, store: Store, clock: Clock, watched: Watched
) -> None:
    ids = [put(engine) for _ in range(2)]
    watched.look()
    for _ in range(4):
        clock.forward(5 * MINUTE)
        for message_id in ids:
            set_row(engine, message_id, due_at=clock.now)
        finish_all(store, RetryLater(why("error_page"), systemic=False))
        for message_id in ids:
            set_row(engine, message_id, due_at=clock.now + MINUTE)
        watched.look()
    assert rows(engine, incident) == []
    watched.look(SECOND)
    watched.look(ALERT_TIMES.grouping)
    assert watched.told == [("nothing-delivered", "opened")]
    alert = watched.desk.told[0]
    assert alert["text"].endswith(f"and message {ids[0]}, order-import, has failed for 15 min 1 s")
    clock.forward(30 * MINUTE)
    claimed = claim_all(store).claims
    watched.look()
    assert len(watched.told) == 1, "it is not over while they are being sent"
    assert recorder(store).record([outcome(each, DELIVERED) for each in claimed])
    watched.look(SECOND)
    assert watched.told[1:] == [("nothing-delivered", "resolved")]


def finish_all(store: Store, verdict: Verdict) -> None:
    assert recorder(store).record([outcome(each, verdict) for each in claim_all(store).claims])


@on_sqlite_first
def test_a_message_that_waits_while_others_are_delivered_is_warned_of(
    engine: Engine, store: Store, clock: Clock, watched: Watched
) -> None:
    put(engine)
    claimed = claim_one(store)
    put(engine)
    clock.forward(SETTINGS.oldest_due)
    watched.pulse(Step.DELIVERED, claimed, "", 0.1)
    watched.look()
    watched.look(ALERT_TIMES.grouping)
    (alert,) = watched.desk.told
    assert (alert["cause"], alert["severity"]) == ("oldest-due", "warning")
    assert alert["oldest_age_seconds"] >= SETTINGS.oldest_due.total_seconds()


@on_sqlite_first
def test_a_destination_that_is_held_or_has_an_open_breaker_is_not_told_of_twice(
    engine: Engine, store: Store, clock: Clock, watched: Watched
) -> None:
    put(engine)
    hold(store, "main", "ann", "their stocktaking")
    watched.look(DAY)
    resume(store, "main", "ann", "it is over")
    with store.writing() as transaction:
        note_incident(
            transaction,
            cause=BREAKER_OPEN,
            destination="main",
            operation="",
            reason="connect_failed",
            text="8 of 10 failed",
            message_id=None,
            alert_times=ALERT_TIMES,
        )
    watched.look(DAY)
    assert {each["cause"] for each in rows(engine, incident)} == {"breaker-open"}
    with store.writing() as transaction:
        resolve_incidents(transaction, BREAKER_OPEN, "main")
    watched.look(SECOND)
    assert "nothing-delivered" in {each["cause"] for each in rows(engine, incident)}


@on_sqlite_first
def test_what_kept_messages_from_a_destination_that_is_no_more_is_over_once_nothing_waits_for_it(
    engine: Engine, store: Store, watched: Watched
) -> None:
    message_id = put(engine, destination="old")
    for name in ("main", "old"):
        with store.writing() as transaction:
            gates.hold(transaction, name, why("http_401"), "the service", ALERT_TIMES)
    watched.look()
    assert [each["resolved_at"] for each in rows(engine, incident)] == [None, None]
    cancel(store, message_id, "ann", "moved away")
    watched.look()
    over = {each["destination"]: each["resolved_at"] is not None for each in rows(engine, incident)}
    assert over == {"main": False, "old": True}


@on_sqlite_first
def test_silent_engines_are_told_by_whoever_looks_and_told_to_be_back(
    engine: Engine, watched: Watched
) -> None:
    watched.look()
    watched.look(SETTINGS.silence - SECOND, alive=False)
    assert rows(engine, incident) == []
    watched.look(SECOND, alive=False)
    watched.look(ALERT_TIMES.grouping, alive=False)
    assert watched.told == [("engines-silent", "opened")]
    assert watched.desk.told[0]["text"].startswith("No engine is alive: the last sign of life was 2 min ago")
    watched.look(SECOND)
    assert watched.told[1:] == [("engines-silent", "resolved")]


@on_sqlite_first
def test_a_disk_that_fills_is_told_and_told_to_have_room_again(watched: Watched) -> None:
    watched.free = 0.01
    watched.look()
    watched.look(ALERT_TIMES.grouping)
    watched.free = 0.5
    watched.look(SECOND)
    assert watched.told == [("disk-nearly-full", "opened"), ("disk-nearly-full", "resolved")]
    opened = watched.desk.told[0]["text"]
    assert opened == f"A disk of {MACHINE} is nearly full (database): 1.0% is free"


def test_many_that_look_at_once_open_one_incident_and_count_it_once(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put(engine)
    clock.forward(DAY)
    with store.reading() as transaction:
        facts = replace(watching.look(transaction), engines=[EngineSeen("web-1", clock.now, clock.now)])
    (trouble,) = findings(facts, SETTINGS, {"main": []}, None).there
    for _ in range(3):
        with store.writing() as transaction:
            watching.open_trouble(transaction, trouble, ALERT_TIMES)
    (opened,) = rows(engine, incident)
    assert opened["occurrences"] == 1


@on_sqlite_first
def test_an_open_incident_is_told_how_things_stand_and_written_once_a_minute_at_most(
    engine: Engine, watched: Watched
) -> None:
    put(engine)
    watched.look(SETTINGS.nothing_delivered)
    (before,) = rows(engine, incident)
    watched.look(acting.REFRESHED_EVERY - SECOND)
    assert rows(engine, incident)[0]["text"] == before["text"]
    watched.look(SECOND)
    assert rows(engine, incident)[0]["text"] == before["text"].replace("16 min", "17 min")
    assert rows(engine, incident)[0]["occurrences"] == 1


def test_the_last_delivery_is_the_latest_that_any_engine_tells_of(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put(engine)
    claimed = claim_one(store)
    early, late = (Pulse(announce_nothing, each, lambda: clock.now.timestamp()) for each in ("a", "b"))
    early(Step.DELIVERED, claimed, "", 0.1)
    clock.forward(MINUTE)
    late(Step.DELIVERED, claimed, "", 0.1)
    moment = clock.now
    clock.forward(MINUTE)
    late.write(store)
    early.write(store)
    (told,) = rows(engine, last_delivery)
    assert abs(told["at"] - moment) < timedelta(milliseconds=1)
    assert len(rows(engine, engine_seen)) == 2
    clock.forward(2 * DAY)
    late.write(store)
    assert len(rows(engine, engine_seen)) == 1, "who was not seen for long is forgotten"


def test_only_what_was_delivered_counts_as_a_delivery(engine: Engine, store: Store, clock: Clock) -> None:
    put(engine)
    claimed = claim_one(store)
    steps: list[Step] = []
    pulse = Pulse(lambda step, *_: steps.append(step), "an-engine")
    for step in (Step.STARTED, Step.RETRIED, Step.DEAD):
        pulse(step, claimed, "", 0.1)
    pulse.write(store)
    assert rows(engine, last_delivery) == []
    assert steps == [Step.STARTED, Step.RETRIED, Step.DEAD], "each is announced all the same"


def test_a_disk_is_read_once_however_many_things_are_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OUTBOX_DATABASE_URL", "OUTBOX_STATE_DIR"):
        monkeypatch.delenv(name)
    settings = Settings(
        database_url=f"sqlite:///{tmp_path}/not/there/yet.db", state_dir=tmp_path / "nor" / "this"
    )
    read = disks_of(settings)
    assert read.machine == MACHINE
    assert list(read.free) == ["database"]
    assert 0 <= read.free["database"] <= 1
    elsewhere = Settings(database_url="postgresql://shop@h/d", state_dir=tmp_path)
    assert list(disks_of(elsewhere).free) == ["state_dir"]


def quickly(made: Any) -> Configuration:
    """Return a rig's configuration with a silence of a second."""
    text = made.file.read_text().replace("[alerts]\n", '[alerts]\nsilence = "1s"\n')
    made.file.write_text(text)
    return config.load(made.file)


@contextmanager
def watchman(made: Any) -> Iterator[Watchman]:
    watching_beside = Watchman(lambda: config.load(made.file, need_secrets=False))
    watching_beside.start()
    try:
        yield watching_beside
    finally:
        watching_beside.stop()


@on_sqlite
def test_engines_that_stop_are_told_by_the_watchman_and_told_to_be_back(place: Place, tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    hooks = f"[{{ command = {json.dumps(desk.hook.command)} }}]"
    with rig(place, hooks=hooks) as made:
        quickly(made)
        with watchman(made):
            made.order("SO-1")
            with engine_of(made):
                eventually(lambda: made.states() == {"delivered"})
                eventually(lambda: rows(made.engine, last_delivery))
            eventually(lambda: [each["cause"] for each in desk.told] == ["engines-silent"], 10)
            with engine_of(made):
                eventually(lambda: [each["kind"] for each in desk.told] == ["opened", "resolved"], 10)


def test_a_watchman_says_once_that_there_is_no_database_and_begins_once_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("worker.watchman.PAUSE_AFTER_TROUBLE_SECONDS", 0.02)
    tries: list[int] = []

    def read() -> Configuration:
        tries.append(1)
        return config.load(need_secrets=False)

    beside = Watchman(read)
    beside.start()
    eventually(lambda: len(tries) > 3)
    beside.stop()
    lines = [each.message for each in caplog.records if each.name == "worker.watchman"]
    assert len(lines) == 1
    assert "the service cannot be watched" in lines[0]
    assert "db upgrade" in lines[0]


@on_sqlite_first
def test_health_fails_while_messages_are_due_and_no_engine_is_alive(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(capsys)
    message_id = put(engine)
    assert shell.good("health", "--json").json == {"ok": True, "engines": 0}
    set_row(engine, message_id, due_at=datetime.now(UTC) - SETTINGS.silence)
    failed = shell.any("health")
    assert failed.status == 1
    assert failed.err.startswith("no engine is alive while messages are due: none was ever seen")
    Pulse(announce_nothing, "an-engine").write(Store(engine))
    assert shell.good("health", "--json").json == {"ok": True, "engines": 1}


@on_sqlite
def test_beat_tells_when_no_engine_is_alive(tmp_path: Path, database_url: str) -> None:
    desk = Desk(tmp_path)
    hooks = f"[{{ command = {json.dumps(desk.hook.command)} }}]"
    with rig(Place(tmp_path, database_url), hooks=hooks) as made:
        quickly(made)
        made.order("SO-1")
        words = ("-A", "tasks", "beat", "--pidfile=")
        (tmp_path / "state").mkdir()
        log = (tmp_path / "beat.log").open("wb")
        beat = Program[bytes]("celery", *words, env=made.environment, stdout=log, stderr=log)
        try:
            eventually(lambda: desk.told, 20)
        finally:
            beat.kill()
            beat.wait()
            log.close()
    (alert,) = desk.told
    assert (alert["cause"], alert["kind"]) == ("engines-silent", "opened")
    assert "none was ever seen, and message 1, order-import, has been due for" in alert["text"]


@on_sqlite
def test_a_hook_that_hangs_holds_up_no_sign_of_life_and_its_alert_is_recorded_though_the_engine_stops(
    place: Place,
) -> None:
    started, go_on = place.folder / "started", place.folder / "go-on"
    hang = (
        f"import pathlib, time; pathlib.Path({str(started)!r}).touch()\n"
        f"while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.01)"
    )
    hooks = f"[{{ command = {[sys.executable, '-S', '-c', hang]!r} }}]"
    options = Options(faults=["500:reference=SO-BAD"])
    with rig(place, options, retry_after=["50ms"], hooks=hooks) as made:
        quickly(made)
        made.order("SO-BAD")
        with engine_of(made):
            eventually(started.exists)
            (seen,) = rows(made.engine, engine_seen)
            later = {name: seen[name] + SECOND / 5 for name in ("seen_at", "swept_at")}
            eventually(lambda: rows(made.engine, engine_seen)[0]["seen_at"] > later["seen_at"], 5)
            eventually(lambda: rows(made.engine, engine_seen)[0]["swept_at"] > later["swept_at"], 5)
        assert rows(made.engine, incident)[0]["alerts_sent"] == 0, "the engine has stopped meanwhile"
        go_on.touch()
        eventually(lambda: rows(made.engine, incident)[0]["alerts_sent"] == 1, 5)
