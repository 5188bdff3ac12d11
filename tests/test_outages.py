"""Outages in virtual time: the gate's decisions over whole days, in thousands of stories."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest

from bench.outage import FILE, drawn
from bench.virtual import CRASHED, DOWN, OK, OWN_FAULT, Answer, Receiver, World
from config import BreakerPolicy, Destination, Rate
from orderflow_outbox import State
from tests.steps import destinations

DAY = 86400.0
FEW = 120
"""Stories of a kind that have their turn in each run."""
MAIN = destinations()["main"]


def main(**others: Any) -> Destination:
    return MAIN.model_copy(update=others)


def down(begin: float, end: float, seconds: float = 0.2) -> Receiver:
    """A receiver that is down from one moment to another."""

    def answer(now: float, _in_progress: int, _message: int, chance: random.Random) -> Answer:
        if begin <= now < end:
            return Answer(0.05, DOWN)
        return Answer(seconds * max(0.5, chance.gauss(1, 0.1)), OK)

    return answer


def poisonous(number: int) -> Receiver:
    """A receiver that refuses the first so many messages for what they are."""
    return lambda _now, _in_progress, message, _chance: Answer(0.1, OWN_FAULT if message < number else OK)


@pytest.fixture(scope="module")
def outage() -> World:
    """10,000 messages waiting, and a day's outage that begins after a minute."""
    world = World(MAIN, [0.0] * 10_000, down(60, 60 + DAY))
    world.run(DAY * 2)
    return world


def test_a_days_outage_sees_forty_probes_at_most_and_kills_nothing(outage: World) -> None:
    during = [each for each in outage.sent if 60 <= each.at < 60 + DAY]
    probes = [each for each in during if each.probe]
    assert 20 <= len(probes) <= 40
    assert len(during) - len(probes) <= 2 * MAIN.window, "those before the breaker opened"
    assert set(outage.states.values()) == {State.DELIVERED}


def test_probes_widen_and_are_made_with_another_message_each(outage: World) -> None:
    probes = [each for each in outage.sent if each.probe]
    waits = [later.at - earlier.at for earlier, later in pairwise(probes)]
    assert all(later >= earlier * 0.99 for earlier, later in pairwise(waits[:10]))
    assert max(waits) <= MAIN.breaker.longest_probe.total_seconds() + 2
    assert len({each.message for each in probes}) == len(probes)


def test_after_an_outage_the_window_doubles_from_one(outage: World) -> None:
    after = [each.window for each in outage.moments if each.at > 60 + DAY and each.breaker == "closed"]
    steps = [earlier for earlier, later in pairwise(after) if later != earlier]
    assert steps[:3] == [1, 2, 4]
    recovering = [each for each in outage.sent if each.at >= 60 + DAY][1:16]
    assert [each.in_progress for each in recovering] == sorted(each.in_progress for each in recovering)


def test_the_picture_in_the_documentation_is_of_these_decisions() -> None:
    assert FILE.read_text(encoding="utf-8") == drawn(), "python -m bench.outage draws it anew"


def seeds_of(stories: int) -> list[Any]:
    """Return the seeds of so many stories of the same kind; all but the first have their turn in the soak."""
    return [range(FEW), pytest.param(range(FEW, stories), marks=pytest.mark.soak)]


def stories(seeds: range) -> list[tuple[int, random.Random]]:
    return [(seed, random.Random(seed)) for seed in seeds]


@pytest.mark.parametrize("seeds", seeds_of(2000), ids=["few", "all"])
def test_in_thousands_of_stories_no_outage_kills_and_no_window_is_passed(seeds: range) -> None:
    for seed, chance in stories(seeds):
        window, run = chance.randint(1, 8), chance.randint(2, 6)
        destination = main(window=window, breaker=BreakerPolicy(failures=run))
        begin, end = sorted((chance.uniform(0, 30), chance.uniform(0, 7200)))
        messages, engines = chance.randint(run + 2 * window + 1, 40), chance.randint(1, 3)
        world = World(
            destination, [0.0] * messages, down(begin, end, chance.uniform(0.01, 0.5)), engines, seed
        )
        world.run(4 * DAY)
        assert set(world.states.values()) == {State.DELIVERED}, seed
        assert max(each.in_progress for each in world.sent) <= window, seed
        failed = [each for each in world.sent if begin <= each.at < end and not each.probe]
        # While one by one comes back another is begun; those of one window had been begun together.
        assert len(failed) <= 2 * (run + window), seed
        probes = [each.at for each in world.sent if each.probe]
        assert all(later - earlier >= 5 for earlier, later in pairwise(probes) if later < end), seed


@pytest.mark.parametrize("seeds", seeds_of(1000), ids=["few", "all"])
def test_in_a_thousand_stories_a_messages_own_failures_never_shut_the_gate(seeds: range) -> None:
    for seed, chance in stories(seeds):
        poisoned = chance.randint(1, 3)

        world = World(MAIN, [0.0] * chance.randint(4, 15), poisonous(poisoned), 2, seed)
        world.run(3 * DAY)
        assert {each.breaker for each in world.moments} == {"closed"}, seed
        states = list(world.states.values())
        assert states[:poisoned] == [State.DEAD] * poisoned, seed
        assert set(states[poisoned:]) == {State.DELIVERED}, seed


@pytest.mark.parametrize("number", [1, 2, 4])
def test_messages_that_the_receiver_breaks_on_never_shut_the_gate(number: int) -> None:
    world = World(MAIN, [0.0] * number, lambda *_: Answer(0.1, CRASHED))
    world.run(3 * DAY)
    assert set(world.states.values()) == {State.DEAD}, "each has had its tries, like any other"
    assert len(world.sent) == number * (len(MAIN.retry.waits) + 1)
    assert {each.breaker for each in world.moments} == {"closed"}


def test_a_message_alone_does_not_die_of_an_outage_either() -> None:
    world = World(MAIN, [0.0], down(0, DAY * 3))
    world.run(DAY * 4)
    assert world.states == {0: State.DELIVERED}
    assert len(world.sent) < 90


@pytest.mark.parametrize("engines", [1, 2, 4])
@pytest.mark.parametrize("rate", [("1s", 5, None), ("1m", 90, 10)])
def test_all_engines_together_keep_the_rate_and_use_it(
    engines: int, rate: tuple[str, int, int | None]
) -> None:
    per, requests, burst = rate
    limit = Rate.model_validate({"requests": requests, "per": per, "burst": burst})
    destination = main(rate=limit, window=32)
    world = World(destination, [0.0] * 600, lambda *_: Answer(0.05, OK), engines)
    world.run(DAY)
    moments = [each.at for each in world.sent]
    for span in (1.0, 10.0, 60.0):
        most = max(sum(begin <= at < begin + span for at in moments) for begin in moments)
        # What engines hold already comes on top, no more than there is room for in the bucket.
        assert most <= 2 * limit.bucket + limit.per_second * span + 1
    assert moments[-1] <= 600 / limit.per_second * 1.05 + 2
