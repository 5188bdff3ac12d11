"""Engines are killed at random while shops go on committing: nothing is lost, whatever the seed."""

from __future__ import annotations

import random
import secrets
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from orderflow_outbox import enqueue
from tests.databases import on_postgresql
from tests.documents import order
from tests.nursery import Program
from tests.proof.checker import Evidence, repeats
from tests.proof.stage import Stage, stage
from tests.rig import Place, eventually

ENGINES = 4
SEED = 20_261_126
HASTY_ENGINES = {"lease": 3, "attempt_deadline": "1s"}


@dataclass(frozen=True, slots=True)
class Storm:
    """What came of one.

    Attributes:
        kills: engines that were killed, whether they had messages in their hands or not.
        in_flight: messages that were being sent at the kills, together.
        again: requests that the receiver had had before.
        quarantined: messages that were in quarantine at some time.
        crash_loops: messages that died of killing who sends them.
        seconds: from the first commit to the end of all.
    """

    kills: int
    messages: int
    in_flight: int
    again: int
    quarantined: int
    crash_loops: int
    seconds: float


class Engines:
    """Engines that are killed, and followed by others.

    Attributes:
        in_flight: messages that were being sent when one was gone, together.
    """

    def __init__(self, made: Stage, stack: ExitStack) -> None:
        self._made = made
        self._stack = stack
        self._all = [self._another() for _ in range(ENGINES)]
        self.in_flight = 0

    def kill(self, number: int) -> None:
        """Kill one as the kernel would, and start another in its place."""
        self._all[number].kill()
        self._replace(number)

    def revive(self) -> None:
        """Start another in the place of each that is gone without having been killed."""
        for number, process in enumerate(self._all):
            if process.poll() is not None:
                self._replace(number)

    def _replace(self, number: int) -> None:
        self._all[number].wait()
        self.in_flight += self._made.in_flight()
        self._all[number] = self._another()

    def _another(self) -> Program[bytes]:
        return self._stack.enter_context(self._made.engine())


def storm(
    made: Stage,
    seed: int,
    messages: int,
    kills: int,
    shops: int = 1,
    apart: tuple[float, float] = (0.05, 0.5),
) -> Storm:
    """Kill engines at random moments while shops commit; then have all come to its end, and be compared.

    Args:
        apart: from one kill to the next, at least and at most so many seconds.
    """
    chance, begun, each = random.Random(seed), time.monotonic(), messages // shops
    at_work = [made.shop(each, each // 3, first=number * each) for number in range(shops)]
    with ExitStack() as stack:
        engines = Engines(made, stack)
        for _ in range(kills):
            time.sleep(chance.uniform(*apart))
            engines.kill(chance.randrange(ENGINES))
            engines.revive()

        def is_over() -> bool:
            engines.revive()
            return all(shop.poll() is not None for shop in at_work) and made.is_at_rest()

        eventually(is_over, seconds=120 + messages / 50, what="all of it comes to its end")
    assert [shop.wait() for shop in at_work] == [0] * shops
    seen = made.assert_all_kept()
    return Storm(
        kills=kills,
        messages=len(seen.committed),
        in_flight=engines.in_flight,
        again=repeats(seen),
        quarantined=sum(row.rescues >= 2 for row in seen.messages),
        crash_loops=len(crash_loops(seen)),
        seconds=time.monotonic() - begun,
    )


def crash_loops(seen: Evidence) -> list[int]:
    """Return the numbers of messages that died of killing who sends them."""
    return [letter.message_id for letter in seen.letters if letter.reason == "crash_loop"]


@on_postgresql
def test_a_storm_of_kills_loses_nothing_and_calls_nobody_poison(place: Place) -> None:
    with stage(place, **HASTY_ENGINES) as made:
        came = storm(made, SEED, messages=240, kills=6)
    assert came.messages == 240
    assert came.again <= came.in_flight
    assert came.crash_loops == 0


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_long_storm_with_poison_in_it_buries_the_poison_alone(place: Place, poison: None) -> None:
    seed = secrets.randbelow(2**32)
    sys.stdout.write(f"seed {seed}\n")
    with stage(place, **HASTY_ENGINES) as made:
        with made.rig.engine.begin() as connection:
            deadly = enqueue(connection, "order-import", order("POISON"), channel="web")
        came = storm(made, seed, messages=9_000, kills=200, shops=3)
        assert crash_loops(made.seen()) == [deadly.id]
    sys.stdout.write(f"{came}\n")
    assert came.again <= came.in_flight


@on_postgresql
@pytest.mark.soak
@pytest.mark.timeout(5400)
def test_a_thousand_kills_among_two_hundred_thousand_messages_lose_nothing(place: Place) -> None:
    seed = secrets.randbelow(2**32)
    sys.stdout.write(f"seed {seed}\n")
    with stage(place, **HASTY_ENGINES) as made:
        came = storm(made, seed, messages=200_000, kills=1000, shops=4, apart=(0.3, 2.0))
    sys.stdout.write(f"{came}\n")
    assert came.messages == 200_000
    assert came.again <= came.in_flight
    assert came.crash_loops == 0
