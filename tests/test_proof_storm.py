"""Engines are killed at random while a shop goes on committing: nothing is lost, whatever the seed."""

from __future__ import annotations

import random
import secrets
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.databases import on_postgresql
from tests.proof.book import entries
from tests.proof.checker import repeats
from tests.proof.stage import Stage, stage
from tests.rig import Place, eventually

ENGINES = 4
SEED = 20_261_126


@dataclass(frozen=True, slots=True)
class Storm:
    """What came of one.

    Attributes:
        kills: engines that were killed, whether they had messages in their hands or not.
        in_flight: messages that were being sent at the kills, together.
        again: requests that the receiver had had before.
    """

    kills: int
    messages: int
    in_flight: int
    again: int


def storm(made: Stage, seed: int, messages: int, kills: int) -> Storm:
    """Kill engines at random moments while a shop commits; then have all come to its end, and be compared."""
    chance = random.Random(seed)
    shop = made.start(
        "tests.proof.producer", str(made.committed_book), "0", str(messages), str(messages // 3)
    )
    in_flight = 0
    with ExitStack() as stack:
        engines = [stack.enter_context(made.engine()) for _ in range(ENGINES)]
        for _ in range(kills):
            time.sleep(chance.uniform(0.05, 0.5))
            doomed = chance.randrange(ENGINES)
            engines[doomed].kill()
            engines[doomed].wait()
            in_flight += made.in_flight()
            engines[doomed] = stack.enter_context(made.engine())
        assert shop.wait(120) == 0
        eventually(made.is_at_rest, seconds=120, what="all of it comes to its end")
    seen = made.assert_all_kept()
    return Storm(kills, len(entries(made.committed_book)), in_flight, repeats(seen))


@on_postgresql
def test_a_storm_of_kills_loses_nothing(place: Place) -> None:
    with stage(place, lease=3, attempt_deadline="1s") as made:
        came = storm(made, SEED, messages=600, kills=8)
    assert came.messages == 600
    assert came.again <= came.in_flight


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_long_storm_of_kills_loses_nothing(place: Place) -> None:
    seed = secrets.randbelow(2**32)
    sys.stdout.write(f"seed {seed}\n")
    with stage(place, lease=3, attempt_deadline="1s") as made:
        came = storm(made, seed, messages=20_000, kills=500)
    sys.stdout.write(f"{came}\n")
    assert came.again <= came.in_flight
