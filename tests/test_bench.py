"""The benchmark runs, in miniature: what it reports adds up. How fast anything was is not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from bench import claiming
from bench.latency import quantile
from bench.orders import OPERATION, document
from bench.receiver import Success
from bench.report import complaint, verdicts
from bench.stage import BenchFailed
from bench.tally import tally_of
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
    return subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=PROJECT,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=110,
    )


def rows(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(select(message).order_by(message.c.id)))


@pytest.mark.soak
def test_both_contestants_deliver_every_message_once_and_are_compared(folder: Path) -> None:
    small = ("--messages", str(MESSAGES), "--rounds", "1", "--seconds", str(SECONDS))
    done = bench(folder, "drain", "latency", *small, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    for figure, messages in (("drain", MESSAGES), ("latency", SECONDS * MESSAGES_A_SECOND)):
        for contestant in ("outbox", "plain"):
            side = report[figure][contestant]
            assert side["messages"] == side["accepted"] == messages, figure
            assert side["lost"] == side["duplicates"] == 0, figure
            assert len(side["rounds"]) == 1
        ratio = report[figure]["ratio"]
        assert ratio["min"] == ratio["median"] == ratio["max"] > 0
    assert report["drain"]["plain"]["median"] > 0
    side = report["latency"]["outbox"]
    assert 0 < side["p50"] <= side["p95"] <= side["p99"] <= side["max"]
    assert report["machine"]["commit_ms"] > 0
    assert report["machine"]["filesystem"]
    assert not list(folder.iterdir()), "the benchmark leaves nothing behind"


def lower_is_better(name: str, figure: dict[str, Any], target: float) -> dict[str, Any]:
    """Return the verdict on a figure that is meant to be at most `target`."""
    ratio = figure["ratio"]["median"]
    return {"figure": name, "ratio": ratio, "better": "lower", "target": target, "met": ratio <= target}


def test_a_shops_transaction_is_timed_with_a_message_and_without(folder: Path) -> None:
    names = ["enqueue-postgresql", "enqueue-sqlite"]
    done = bench(folder, *names, "--transactions", "48", "--messages", "100", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    for name, verdict in zip(names, report["figures"], strict=True):
        figure = report[name]
        assert len(figure["outbox"]["rounds"]) == len(figure["plain"]["rounds"]) == 2
        assert figure["outbox"]["median"] > 0
        assert figure["plain"]["median"] > 0
        assert figure["many_per_second"] > 0
        assert verdict == lower_is_better(name, figure, 1.5)
    assert not list(folder.iterdir()), "the benchmark leaves nothing behind"


def test_claims_are_timed_with_followers_parked_and_without(folder: Path) -> None:
    names = ["claim-postgresql", "claim-sqlite"]
    done = bench(folder, *names, "--followers", "300", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["plan"]["followers"] == 300
    for name, verdict in zip(names, report["figures"], strict=True):
        figure = report[name]
        assert len(figure["outbox"]["rounds"]) == len(figure["plain"]["rounds"]) == claiming.ROUNDS
        assert figure["outbox"]["median"] > 0
        assert figure["plain"]["median"] > 0
        assert verdict == lower_is_better(name, figure, 1.5)
    assert not list(folder.iterdir()), "the benchmark leaves nothing behind"


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


def test_judging_is_timed_against_parsing_alone(folder: Path) -> None:
    done = bench(folder, "judge-1", "judge-500", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    for verdict, target in zip(report["figures"], (5.0, 2.0), strict=True):
        figure = report[verdict["figure"]]
        assert figure["outbox"]["median"] > figure["plain"]["median"] > 0
        assert figure["per_second"] > 0
        assert (verdict["better"], verdict["target"]) == ("lower", target)


def test_a_window_that_follows_is_timed_against_one_chosen_by_hand(folder: Path) -> None:
    done = bench(folder, "window", "--messages", "40", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (verdict,) = report["figures"]
    assert (verdict["better"], verdict["target"]) == ("higher", 0.9)
    assert report["window"]["outbox"]["median"] > 0
    assert 1 <= report["window"]["settled_at"] <= 32
    assert 0 <= report["window"]["timed_out"] < 1


def test_a_ratio_is_judged_in_the_direction_of_its_figure() -> None:
    report = {
        "drain": {"ratio": {"median": 4.0}},
        "enqueue-postgresql": {"ratio": {"median": 1.5}},
        "enqueue-sqlite": {"ratio": {"median": 1.51}},
        "claim-postgresql": {"ratio": {"median": 1.5}},
        "claim-sqlite": {"ratio": {"median": 1.51}},
        "window": {"ratio": {"median": 0.95}},
    }
    judged = [(each["figure"], each["better"], each["met"]) for each in verdicts(report)]
    assert judged == [
        ("drain", "higher", None),
        ("enqueue-postgresql", "lower", True),
        ("enqueue-sqlite", "lower", False),
        ("claim-postgresql", "lower", True),
        ("claim-sqlite", "lower", False),
        ("window", "higher", True),
    ]


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
    fine = {"lost": 0, "duplicates": 0}
    report = {"drain": {"outbox": {"lost": 1, "duplicates": 2}, "plain": fine, "ratio": {}}}
    assert complaint(report) == "drain, outbox: 1 lost, 2 received twice"
    assert complaint({"drain": {"outbox": fine, "plain": fine}}) is None


def test_received_but_not_delivered_by_the_databases_word_is_lost() -> None:
    assert tally_of(["a", "b"], [("a", 1.0), ("b", 2.0)], delivered=1).lost == 1


def test_a_quantile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [quantile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50.0, 95.0, 99.0, 100.0]
    assert quantile([7.0], 0.5) == 7.0
