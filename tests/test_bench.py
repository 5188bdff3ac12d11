"""The benchmark runs, in miniature: what it reports adds up. How fast anything was is not asserted."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import Engine, create_engine, event, select, update

from bench import claiming, commands, enqueue, judging
from bench.comparing import Comparison
from bench.latency import quantile
from bench.orders import OPERATION, document
from bench.receiver import Success
from bench.report import as_json, complaint, show
from bench.stage import BenchFailed
from bench.tally import Tally, tally_of
from bench.where import kind_of
from config import load_rules
from orderflow_outbox import PREDEFINED
from orderflow_outbox.tables import message
from tests.rig import PROJECT
from worker.deliveries import Reply
from worker.rules import Judge
from worker.verdicts import Delivered

MESSAGES = 200
SECONDS = 1
MESSAGES_A_SECOND = 20


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder that the database server, where it runs as another user, can pass through."""
    with tempfile.TemporaryDirectory(prefix="outbox-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def bench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # The plain task's client reads the machine's authorities, which tests are spared: without any it fails.
    environment = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    return subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=PROJECT,
        env={**environment, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=110,
    )


def rows(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(select(message).order_by(message.c.id)))


def figures(folder: Path, *words: str) -> dict[str, dict[str, Any]]:
    """Run the benchmark; return each figure of its last line by name, having looked at what all have."""
    done = bench(folder, *words, "--json")
    assert done.returncode == 0, done.stderr
    return figures_in(done.stdout, folder)


def figures_in(told: str, folder: Path) -> dict[str, dict[str, Any]]:
    about, last = told.splitlines()
    assert json.loads(about)["machine"]["commit_ms"] > 0
    taken = json.loads(last)
    for each in taken:
        assert len(each["ours"]) == len(each["baseline"]), each
        assert 0 < each["least_ratio"] <= each["ratio"] <= each["greatest_ratio"], each
        assert isinstance(each["met"], bool), each
        assert each["lost"] == each["duplicates"] == 0, each
    assert not list(folder.iterdir()), "the benchmark leaves nothing behind"
    return {each["figure"]: each for each in taken}


@pytest.fixture
def figures_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, dict[str, Any]]]:
    """Takes figures in this process, in few rounds."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(enqueue, "WARM_UP_ROUNDS", 1)
    monkeypatch.setattr(judging, "ROUNDS", 3)

    def take(*words: str) -> dict[str, dict[str, Any]]:
        assert commands.app(args=[*words, "--json"], standalone_mode=False) == 0
        return figures_in(capsys.readouterr().out, folder)

    return take


@pytest.mark.soak
def test_a_full_outbox_is_compared_with_the_plain_task_and_the_bare_loop(folder: Path) -> None:
    small = ("--messages", str(MESSAGES), "--plain-messages", str(MESSAGES), "--rounds", "1")
    taken = figures(folder, "drain", "drain-bare", "cpu", *small)
    assert list(taken) == ["drain", "drain-bare", "cpu"]
    assert {each["messages"] for each in taken.values()} == {2 * MESSAGES}
    assert {name: (each["better"], each["target"]) for name, each in taken.items()} == {
        "drain": ("higher", 10.0),
        "drain-bare": ("higher", 0.5),
        "cpu": ("lower", 0.125),
    }
    notes = taken["drain"]["notes"]
    shares = [value for name, value in notes.items() if name.startswith("event loop: ")]
    assert sum(shares) == pytest.approx(1)
    assert notes["store thread: database"] > 0
    assert taken["drain-bare"]["notes"]["the receiver takes from 1, requests/s"] > 0


@pytest.mark.soak
def test_both_contestants_drain_the_embedded_database(folder: Path) -> None:
    small = ("--messages", str(MESSAGES), "--plain-messages", str(MESSAGES), "--rounds", "1")
    taken = figures(folder, "drain-embedded", *small)
    assert taken["drain-embedded"]["messages"] == 2 * MESSAGES


@pytest.mark.soak
def test_latency_is_compared_with_the_plain_tasks(folder: Path) -> None:
    taken = figures(folder, "latency-p50", "latency-p99", "--rounds", "1", "--seconds", str(SECONDS))
    p50, p99 = taken["latency-p50"], taken["latency-p99"]
    assert p50["messages"] == p99["messages"] == 2 * SECONDS * MESSAGES_A_SECOND
    assert p50["ours"] <= p99["ours"]
    assert p50["baseline"] <= p99["baseline"]


@pytest.mark.soak
def test_requests_in_progress_never_exceed_the_window(folder: Path) -> None:
    taken = figures(folder, "in-flight-64", "--rounds", "1", "--seconds", "0.5")
    assert taken["in-flight-64"]["baseline"] == [64]
    assert taken["in-flight-64"]["ours"][0] <= 64


def test_a_shops_transaction_is_timed_with_a_message_and_without(
    figures_here: Callable[..., dict[str, dict[str, Any]]],
) -> None:
    names = ["enqueue-postgresql", "enqueue-sqlite"]
    taken = figures_here(*names, "--transactions", "48", "--messages", "100")
    assert list(taken) == names
    for each in taken.values():
        assert len(each["ours"]) == 2
        assert each["notes"]["many at once, messages/s"] > 0
        assert (each["better"], each["target"]) == ("lower", 1.5)


@pytest.mark.soak
def test_claims_are_timed_with_followers_parked_and_without(folder: Path) -> None:
    names = ["claim-postgresql", "claim-sqlite"]
    taken = figures(folder, *names, "--followers", "300")
    assert list(taken) == names
    for each in taken.values():
        assert len(each["ours"]) == claiming.ROUNDS
        assert (each["better"], each["target"]) == ("lower", 1.5)


@pytest.mark.soak
def test_claims_are_timed_while_messages_are_purged_and_while_none_are(folder: Path) -> None:
    names = ["purge-postgresql", "purge-sqlite"]
    taken = figures(folder, *names, "--crowd", "3000", "--rounds", "1")
    assert list(taken) == names
    for each in taken.values():
        assert 0 < each["notes"]["purged"] <= 3000
        assert (each["better"], each["target"]) == ("lower", 1.5)


def test_a_claim_that_is_timed_gets_all_that_is_due_and_gives_it_back(engine: Engine) -> None:
    claiming.fill(engine, 300)
    claiming.check_parked(engine, 300)
    before = rows(engine)
    assert claiming.claim_milliseconds(engine) > 0
    assert claiming.claim_milliseconds(engine) > 0
    assert rows(engine) == before
    due = [row for row in before if row.state == "pending" and row.due_at is not None]
    assert len(due) == claiming.DUE
    assert {row.blocks for row in due} == {row.key is not None for row in due} == {True, False}


def test_a_claim_that_misses_a_message_is_told(engine: Engine) -> None:
    claiming.fill(engine, 0)
    last = rows(engine)[-1].id
    with engine.begin() as connection:
        connection.execute(update(message).where(message.c.id == last).values(due_at=None))
    with pytest.raises(BenchFailed, match="it got 249 messages of 250"):
        claiming.claim_milliseconds(engine)


def test_followers_that_wait_for_nobody_are_told(engine: Engine) -> None:
    claiming.fill(engine, 300)
    with pytest.raises(BenchFailed, match="300 messages are parked of 301"):
        claiming.check_parked(engine, 301)
    with engine.begin() as connection:
        connection.execute(update(message).where(message.c.state == "dead").values(blocks=False))
    with pytest.raises(BenchFailed, match="waits for nobody"):
        claiming.check_parked(engine, 300)


def test_judging_is_timed_against_parsing_alone(
    figures_here: Callable[..., dict[str, dict[str, Any]]],
) -> None:
    taken = figures_here("judge-1", "judge-500")
    assert [each["target"] for each in taken.values()] == [5.0, 2.0]
    for each in taken.values():
        assert each["ratio"] > 0
        assert each["notes"]["replies/s"] > 0


@pytest.mark.soak
def test_a_window_that_follows_is_timed_against_one_chosen_by_hand(folder: Path) -> None:
    taken = figures(folder, "window", "--messages", "40", "--rounds", "1")["window"]
    assert (taken["better"], taken["target"]) == ("higher", 0.9)
    assert taken["messages"] == 2 * 40
    assert 1 <= taken["notes"]["settled at"] <= 32
    assert 0 <= taken["notes"]["timed out, share"] < 1


@pytest.mark.soak
@pytest.mark.parametrize(("kind", "messages", "most"), [("term", 1000, 100), ("text", 200, 300)])
def test_searches_are_timed_beside_a_look_up_by_number(
    folder: Path, kind: str, messages: int, most: int
) -> None:
    taken = figures(folder, f"search-{kind}-postgresql", f"search-{kind}-sqlite", "--crowd", "1000")
    assert len(taken) == 2
    for each in taken.values():
        assert (each["notes"]["messages"], each["most_added"]) == (messages, most)


@pytest.mark.soak
def test_a_drain_is_timed_with_everything_to_index_and_with_nothing(folder: Path) -> None:
    small = ("--messages", str(MESSAGES), "--rounds", "1")
    taken = figures(folder, "search-drain-postgresql", "search-drain-sqlite", *small)
    for each in taken.values():
        assert (each["messages"], each["better"], each["target"]) == (2 * MESSAGES, "higher", 0.9)


def comparison(**changes: Any) -> Comparison:
    usual = Comparison("speed", "m/s", "walking", (1.0, 2.0, 9.0), (1.0, 1.0, 1.0), "higher", 2.0)
    return replace(usual, **changes)


@pytest.mark.parametrize(
    ("changes", "met"),
    [
        ({}, True),
        ({"target": 2.1}, False),
        ({"better": "lower"}, True),
        ({"better": "lower", "target": 1.9}, False),
        ({"target": None}, None),
        ({"target": None, "most_added": 1.0}, True),
        ({"target": None, "most_added": 0.9}, False),
    ],
)
def test_a_figure_is_judged_in_its_direction_by_its_median(changes: dict[str, Any], met: bool | None) -> None:
    told = as_json(comparison(**changes))
    assert told["met"] is met
    assert told["target"] == changes.get("most_added", changes.get("target", 2.0))
    assert (told["figure"], told["ratio"], told["least_ratio"], told["greatest_ratio"]) == ("speed", 2, 1, 9)


def test_a_person_is_shown_what_a_figure_is_meant_to_be_and_whether_it_is() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    tallies = (Tally(messages=5, accepted=4, duplicates=1),)
    show([comparison(tallies=tallies, notes={"shoes": 2.0}), comparison(better="lower", target=1.9)], console)
    head, good, bad, besides, _ = console.export_text().splitlines()
    assert head.split()[:3] == ["figure", "ours", "baseline"]
    assert "2× (1–9)" in good
    assert good.split()[-3:] == ["≥", "2", "met"]
    assert bad.split()[-3:] == ["≤", "1.9", "missed"]
    assert besides == "speed: 3 rounds; 4 of 5 messages accepted, 1 received twice; shoes 2"


def test_a_figure_that_may_add_so_much_is_shown_by_what_it_adds() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    weighed = comparison(unit="MB", better="lower", target=None, most_added=20.0)
    show([weighed], console)
    line = console.export_text().splitlines()[1]
    assert "+1 MB (0–8)" in line
    assert line.split()[-5:] == ["≤", "20", "MB", "more", "met"]
    assert (as_json(weighed)["added"], as_json(weighed)["target"]) == (1.0, 20.0)


def test_the_receivers_answer_delivers_the_order_it_names() -> None:
    head, _, body = Success().on("shop-000001").partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    judge = Judge(load_rules(None, PREDEFINED, ["main"]))
    sent = document("shop-000001").encode()
    found = judge.judge(Reply(200, (), body), "main", PREDEFINED[OPERATION], False, datetime.now(UTC), sent)
    assert isinstance(found.verdict, Delivered)
    assert [each.reference for each in found.items] == ["shop-000001"]


def test_an_unknown_figure_is_refused_in_one_line(folder: Path) -> None:
    done = bench(folder, "speed")
    assert done.returncode == 2
    assert "speed" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_message_lost_or_received_twice_is_told() -> None:
    books = [("a", 1.0), ("b", 2.0), ("b", 3.0), ("another", 4.0)]
    tally = tally_of(["a", "b", "c"], books, delivered=2)
    assert (tally.messages, tally.accepted, tally.lost, tally.duplicates) == (3, 2, 1, 1)
    wrong, fine = comparison(tallies=(tally, tally)), comparison(tallies=(Tally(3, 3, 0),))
    assert complaint([fine, wrong]) == "speed: 2 lost, 2 received twice"
    assert complaint([fine]) is None


def test_what_was_lost_makes_the_run_fail(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    lost = comparison(tallies=(Tally(messages=2, accepted=1, duplicates=0),))
    monkeypatch.setattr(commands, "taken", lambda *_: [lost])
    assert commands.app(args=["judge-1", "--json"], standalone_mode=False) == 1
    told = capsys.readouterr()
    assert told.err.strip() == "speed: 1 lost, 0 received twice"
    assert json.loads(told.out.splitlines()[-1])[0]["lost"] == 1


def test_a_thread_is_at_what_its_innermost_known_module_does() -> None:
    assert kind_of(sys._getframe()) == "rest"
    engine = create_engine("sqlite://")
    kinds = []
    event.listen(engine, "connect", lambda *_: kinds.append(kind_of(sys._getframe())))
    engine.connect().close()
    assert kinds == ["database"]
    pool = ThreadPoolExecutor(1)
    assert pool.submit(sum, ()).result() == 0
    (thread,) = pool._threads
    assert kind_of(sys._current_frames()[thread.ident or 0]) == "idle"
    pool.shutdown()


def test_received_but_not_delivered_by_the_databases_word_is_lost() -> None:
    assert tally_of(["a", "b"], [("a", 1.0), ("b", 2.0)], delivered=1).lost == 1


def test_a_quantile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [quantile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50.0, 95.0, 99.0, 100.0]
    assert quantile([7.0], 0.5) == 7.0
