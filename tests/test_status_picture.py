"""The picture of how things stand: one word for each way, and columns that fit every terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from config import Destination, Pause, Rate, paused_operations
from tests.steps import destinations
from worker.commands.picture import Picture
from worker.notes import roughly
from worker.status import DestinationStatus, Status, Way, paused_until, way_to
from worker.store.indexing import Lag
from worker.store.standing import LATEST, Standing

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=each) for each in (1, 60, 3600, 86400))


def gate(**others: Any) -> dict[str, Any]:
    """Return the row of an open gate, but for what is given."""
    blank = dict.fromkeys(
        ("reason", "text", "changed_by", "changed_at", "probe_at", "window", "paused_until")
    )
    return {**blank, "state": "open", "breaker": "closed", **others}


HELD = gate(state="held", reason="by_hand", text="it moves house", changed_by="ann", changed_at=NOW - HOUR)
BROKEN = gate(
    breaker="open", probe_at=NOW + 4 * MINUTE + SECOND, reason="http_503", text="HTTP 503 Service Unavailable"
)
PROBED = gate(breaker="probing", probe_at=NOW, reason="timeout", text="no answer within 30 s")
PAUSED = gate(paused_until=NOW + 30 * MINUTE)


@pytest.mark.parametrize(
    ("row", "way"),
    [
        ({}, Way.OPEN),
        (gate(), Way.OPEN),
        (HELD, Way.HELD),
        (BROKEN, Way.BREAKER_OPEN),
        (PROBED, Way.PROBING),
        (PAUSED, Way.PAUSED),
        (gate(paused_until=NOW), Way.OPEN),
        (HELD | {"breaker": "open", "paused_until": NOW + HOUR}, Way.HELD),
        (BROKEN | {"paused_until": NOW + HOUR}, Way.BREAKER_OPEN),
        (PROBED | {"paused_until": NOW + HOUR}, Way.PROBING),
    ],
)
def test_of_all_that_stands_in_the_way_the_most_important_is_told(row: dict[str, Any], way: Way) -> None:
    main = destinations()["main"]
    assert way_to(main, row, NOW) is way
    assert way_to(None, row, NOW) is Way.NOT_CONFIGURED


def status_of(name: str = "main", row: dict[str, Any] | None = None, **others: Any) -> DestinationStatus:
    main: Destination | None = others.pop("destination", destinations()["main"])
    row = row or {}
    paused = {
        "paused_until": None if main is None else paused_until(main, row, NOW),
        "paused_operations": {} if main is None else paused_operations(main.pauses, NOW),
    }
    values = {**paused, "in_use": 0, "standing": Standing(), "finished": {}}
    rates = {"delivered_per_minute": 0.0, "failed_per_minute": 0.0}
    return DestinationStatus(name, main, row, way_to(main, row, NOW), **{**values, **rates, **others})


def drawn(*rows: DestinationStatus, width: int = 140, **others: Any) -> list[str]:
    """Return the lines of a picture on a terminal of that width."""
    values = {"rates_over": LATEST, "has_totals": False, "incidents": ()}
    trouble = others.pop("trouble", None)
    status = Status(NOW, rows, **{**values, **others})
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(Picture(status, trouble))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def cells(lines: list[str]) -> dict[str, dict[str, str]]:
    """Return the first table by destination and column; headers of two lines are told by the lower one."""
    _upper, header, *rest = lines
    assert "per min" in header
    names = ["destination", *header.replace("per min", "per-min").split()[1:]]
    found = {}
    for line in rest[: rest.index("")]:
        values = [each.strip() for each in line.split("  ") if each.strip()]
        if len(values) == len(names):
            found[values[0]] = dict(zip(names, values, strict=True))
    return found


def test_what_stands_in_the_way_is_one_word_in_the_table_and_a_line_below_it() -> None:
    lines = drawn(
        status_of("a", HELD),
        status_of("b", BROKEN),
        status_of("c", PROBED),
        status_of("d", PAUSED),
        status_of("e", gate(paused_until=NOW + 2 * DAY)),
        status_of("f", destination=None),
        status_of("g"),
    )
    states = {name: row["state"] for name, row in cells(lines).items()}
    assert states == {
        "a": "held",
        "b": "breaker open",
        "c": "probing",
        "d": "paused until 09:30",
        "e": "paused until 2026-11-28 09:00",
        "f": "not configured",
        "g": "open",
    }
    assert lines[9:17] == [
        "a is held by ann since 2026-11-26 08:00:00 UTC, by_hand: it moves house",
        "b: breaker open, next probe in 4 min, at 2026-11-26 09:04:01 UTC",
        "b: it failed, http_503: HTTP 503 Service Unavailable",
        "c: probing, next probe now",
        "c: it failed, timeout: no answer within 30 s",
        "d is paused until 2026-11-26 09:30:00 UTC",
        "e is paused until 2026-11-28 09:00:00 UTC",
        "f is not configured: its messages wait until it is",
    ]
    assert {name: row["probe"] for name, row in cells(lines).items() if row["probe"] != "–"} == {
        "b": "in 4 min",
        "c": "now",
    }


def test_what_the_service_holds_has_a_next_probe() -> None:
    row = HELD | {"changed_by": "the service", "breaker": "open", "probe_at": NOW + HOUR}
    assert any("held, next probe in 1 h" in line for line in drawn(status_of("main", row)))
    assert not any("next probe" in line for line in drawn(status_of("main", HELD | {"breaker": "open"})))


def test_pauses_by_the_calendar_are_told_and_what_rate_is_kept() -> None:
    night = {"begin": "08:00", "end": "10:00", "zone": "UTC"}
    orders = Pause.model_validate({**night, "operations": ["order-import"]})
    rate = Rate.model_validate({"requests": 600, "per": "1m"})
    some = destinations()["main"].model_copy(update={"pauses": [orders], "rate": rate})
    lines = drawn(status_of("main", destination=some))
    assert (cells(lines)["main"]["state"], cells(lines)["main"]["rate"]) == ("open", "600/min")
    assert "main: order-import is paused until 2026-11-26 10:00:00 UTC" in lines
    all_of_it = some.model_copy(update={"pauses": [Pause.model_validate(night)]})
    assert cells(drawn(status_of("main", destination=all_of_it)))["main"]["state"] == "paused until 10:00"


BUSY = Standing(
    123456, 100003, 20111, 8, 3, NOW - 4 * MINUTE, NOW - 27 * HOUR, [812, 4021, 9000, 50000, 9, 7, 623, 5]
)
LONG_NAME = "n" * 64
NEVER_LEFT_OUT_AT_80 = {"state", "window", "due", "parked", "oldest", "per-min"}


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_line_is_wrapped_or_cut_and_the_important_columns_are_there(width: int) -> None:
    lines = drawn(
        status_of("main", standing=BUSY, in_use=8, delivered_per_minute=1234.4, failed_per_minute=3.25),
        status_of("second", BROKEN),
        width=width,
    )
    assert max(map(len, lines)) <= width
    assert not [line for line in lines if "…" in line]
    found = cells(lines)["main"]
    assert found.keys() >= NEVER_LEFT_OUT_AT_80
    assert (found["window"], found["due"], found["parked"], found["oldest"]) == (
        "8 / 8",
        "100003",
        "20111",
        "27 h",
    )
    assert "1234      3.2" in lines[2]
    assert ("probe" in found) == (width > 80)
    assert ("sending" in found) == (width == 140)
    assert any(line.startswith("second: breaker open, next probe in 4 min") for line in lines)


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_a_long_name_is_cut_before_a_number_is(width: int) -> None:
    lines = drawn(
        status_of(LONG_NAME, standing=BUSY), status_of("main", standing=BUSY), has_totals=True, width=width
    )
    assert max(map(len, lines)) <= width
    kept = {"state", "due", "oldest", "per"} if width >= 80 else {"state", "due", "oldest"}
    assert kept <= set(lines[1].split()), "nor a column dropped"
    cut = [line for line in lines if "…" in line]
    assert all(
        line.startswith("nnn") and line.count("…") == 1 and line.split()[0].endswith("…") for line in cut
    )


def test_ages_are_shown_for_each_destination_and_for_all() -> None:
    few = Standing(ages=[1, 0, 0, 0, 0, 0, 0, 2])
    lines = drawn(status_of("main", standing=BUSY), status_of("second", standing=few), width=80)
    table = [" ".join(line.split()) for line in lines[lines.index("") + 1 :]]
    assert table[0].endswith("by age up to")
    assert table[1] == "destination total 1 min 5 min 15 min 1 h 6 h 24 h 3 d older"
    assert table[2] == "TOTAL 64480 813 4021 9000 50000 9 7 623 7"
    assert table[3] == "main 64477 812 4021 9000 50000 9 7 623 5"
    assert table[4] == "second 3 1 0 0 0 0 0 0 2"
    alone = drawn(status_of("main", standing=BUSY))
    assert not [line for line in alone if "TOTAL" in line]


def test_rates_of_a_shorter_time_say_so() -> None:
    assert not [line for line in drawn(status_of()) if "of the last" in line]
    assert "per min: of the last 12 s" in drawn(status_of(), rates_over=12 * SECOND)


def test_trouble_is_told_last_and_without_a_status_alone() -> None:
    assert drawn(status_of(), trouble="the database is away")[-1] == "the database is away"
    console = Console(file=io.StringIO(), width=80)
    console.print(Picture(None, "the database is away"))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "the database is away\n"


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (-SECOND, "0 s"),
        (0.9 * SECOND, "0 s"),
        (59.9 * SECOND, "59 s"),
        (MINUTE, "1 min"),
        (59 * MINUTE + 59 * SECOND, "59 min"),
        (HOUR, "1 h"),
        (47 * HOUR + 59 * MINUTE, "47 h"),
        (2 * DAY, "2 d"),
        (3 * DAY - SECOND, "2 d"),
    ],
)
def test_a_rough_duration_is_in_one_unit_and_never_said_longer_than_it_is(
    span: timedelta, words: str
) -> None:
    assert roughly(span) == words


def test_an_open_incident_is_told_by_its_cause() -> None:
    held = {"id": 7, "cause": "breaker-open", "destination": "main", "operation": "", "reason": "http_503"}
    letters = {
        **held,
        "id": 8,
        "cause": "dead-letters",
        "operation": "order-import",
        "reason": "items_failed",
    }
    rows = [{**each, "occurrences": 3, "opened_at": NOW} for each in (held, letters)]
    assert drawn(status_of("main"), incidents=rows)[-2:] == [
        "incident 7: breaker-open main http_503, 3 ×, since 2026-11-26 09:00:00 UTC",
        "incident 8: dead-letters main order-import items_failed, 3 ×, since 2026-11-26 09:00:00 UTC",
    ]


def test_how_far_a_search_is_behind_is_told_once_it_takes_long() -> None:
    behind = Lag(12, 34, NOW - 3 * MINUTE)
    told = "search does not find yet: 12 messages by their terms and 34 texts, the oldest for 3 min"
    assert told in drawn(status_of("a"), lag=behind)
    assert not any("search" in line for line in drawn(status_of("a"), lag=replace(behind, oldest=NOW)))
