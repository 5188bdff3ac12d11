"""The window follows the receiver: towards its capacity, down when it fails, back by doubling."""

from __future__ import annotations

import heapq
import random
import statistics
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from worker.throttle import (
    FEWEST_ANSWERS,
    FIRST_SIZE,
    MEASURED_EVERY,
    PATIENCE,
    Answers,
    Window,
    answered,
    failed,
    first_window,
    reopened,
)

NOW = datetime(2026, 11, 26, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LIMIT = 32
BEST = 0.2
KNOWN = Window(size=8, ramp_to=8, since=NOW, best=BEST, best_at=NOW)


def after(
    window: Window, number: int, seconds: float, limiting: bool = True, now: datetime = NOW + SECOND
) -> Window:
    answers = Answers(number, number * seconds)
    return answered(window, answers, limit=LIMIT, is_limiting=limiting, now=now)


def test_it_begins_small_and_never_larger_than_the_limit() -> None:
    assert first_window(LIMIT, NOW).size == FIRST_SIZE
    assert first_window(2, NOW).size == 2


def test_it_grows_by_one_after_a_window_of_good_answers() -> None:
    assert after(KNOWN, FEWEST_ANSWERS - 1, BEST).size == 8
    assert after(KNOWN, FEWEST_ANSWERS, BEST).size == 9
    assert after(replace(KNOWN, size=LIMIT, ramp_to=LIMIT), 100, BEST).size == LIMIT


def test_it_does_not_grow_while_nothing_more_is_to_be_sent() -> None:
    assert after(KNOWN, 100, BEST, limiting=False).size == 8


def test_it_shrinks_by_one_when_answers_take_well_longer_than_at_their_best() -> None:
    slow = after(KNOWN, FEWEST_ANSWERS, BEST * 1.35)
    assert (slow.size, slow.patience) == (7, PATIENCE)


def test_between_growing_and_shrinking_it_stays() -> None:
    assert after(KNOWN, FEWEST_ANSWERS, BEST * 1.2).size == 8


def test_after_it_shrank_it_waits_before_it_grows() -> None:
    window, rounds = after(KNOWN, FEWEST_ANSWERS, BEST * 2), 0
    while window.size == 7:
        window, rounds = after(window, FEWEST_ANSWERS, BEST), rounds + 1
    assert (window.size, rounds) == (8, PATIENCE + 1)


def test_a_rise_of_milliseconds_is_none() -> None:
    quick = replace(KNOWN, best=0.005)
    assert after(quick, FEWEST_ANSWERS, 0.02).size == 9


def test_answers_to_earlier_requests_are_not_asked_twice() -> None:
    part = after(KNOWN, FEWEST_ANSWERS // 2, BEST)
    assert part.answers.number == FEWEST_ANSWERS // 2
    assert after(part, FEWEST_ANSWERS // 2, BEST).size == 9


def test_a_failure_halves_it_once_for_all_requests_of_one_window() -> None:
    half = failed(KNOWN, NOW, NOW + SECOND)
    assert (half.size, half.ramp_to) == (4, 4)
    assert failed(half, NOW, NOW + SECOND) == half, "begun before it was halved"
    assert failed(half, NOW + SECOND, NOW + 2 * SECOND).size == 2
    assert failed(replace(KNOWN, size=1), NOW, NOW).size == 1


def test_after_an_outage_it_doubles_from_one() -> None:
    window, sizes = reopened(replace(KNOWN, best_at=NOW - MEASURED_EVERY * 9), LIMIT, NOW), []
    while window.size < LIMIT:
        sizes.append(window.size)
        window = after(window, window.size, BEST)
    assert sizes == [1, 2, 4, 8, 16]


def test_after_an_outage_at_the_very_beginning_it_doubles_too() -> None:
    window, sizes = reopened(first_window(LIMIT, NOW), LIMIT, NOW), []
    while window.best is None:
        sizes.append(window.size)
        window = after(window, 4, BEST)
    assert sizes[:3] == [1, 2, 4]


def test_doubling_too_far_is_taken_back_at_once() -> None:
    far = replace(KNOWN, size=16, ramp_to=LIMIT)
    assert after(far, 16, BEST * 3).size == 8


def test_the_best_is_measured_anew_with_half_the_window() -> None:
    later = NOW + MEASURED_EVERY
    slower = after(KNOWN, FEWEST_ANSWERS, BEST, now=later)
    assert (slower.size, slower.best) == (4, None)
    again = after(slower, FEWEST_ANSWERS, BEST * 3, now=later + SECOND)
    assert (again.size, again.best, again.best_at) == (8, pytest.approx(BEST * 3), later + SECOND)


def test_where_measuring_takes_long_it_is_done_less_often() -> None:
    slow = replace(KNOWN, best=10.0, best_at=NOW)
    # 32 answers of ten seconds, four at once, are 80 s: a twentieth of 1600 s.
    assert after(slow, FEWEST_ANSWERS, 11.5, now=NOW + 1599 * SECOND).best is not None
    assert after(slow, FEWEST_ANSWERS, 11.5, now=NOW + 1600 * SECOND).best is None


def test_a_smaller_limit_counts_at_once() -> None:
    assert answered(KNOWN, Answers(), limit=3, is_limiting=True, now=NOW).size == 3


class Run:
    """A receiver of capacity 5 that slows down under more, and one sender that always has more to send."""

    def __init__(
        self, seed: int, base: float, variation: float, power: float, fixed: int | None = None
    ) -> None:
        chance, window, now, reports = random.Random(seed), first_window(LIMIT, NOW), 0.0, 0.25
        in_progress: list[tuple[float, float]] = []
        answers: list[tuple[float, float]] = []
        self.answered = self.timeouts = 0
        self.sizes: list[int] = []
        while now < 120:
            size = window.size if fixed is None else fixed
            while len(in_progress) < size:
                load = max(1.0, ((len(in_progress) + 1) / 5) ** power)
                heapq.heappush(in_progress, (now + base * load * max(0.2, chance.gauss(1, variation)), now))
            if reports < in_progress[0][0]:
                now, reports = reports, reports + 0.25
                moment = NOW + timedelta(seconds=now)
                counted = [
                    taken for begun, taken in answers if NOW + timedelta(seconds=begun) >= window.since
                ]
                summed = Answers(len(counted), sum(counted))
                window = answered(window, summed, limit=LIMIT, is_limiting=True, now=moment)
                answers.clear()
                self.sizes += [window.size] if now > 20 else []
                continue
            now, begun = heapq.heappop(in_progress)
            if now - begun < base * 10:
                self.answered += 1
                answers.append((begun, now - begun))
            else:
                self.timeouts += 1
                window = failed(window, NOW + timedelta(seconds=begun), NOW + timedelta(seconds=now))


@pytest.mark.parametrize("power", [1.0, 2.0], ids=["as slow as it is full", "slower than it is full"])
@pytest.mark.parametrize("variation", [0.1, 0.3])
@pytest.mark.parametrize("base", [0.2, 1.0])
def test_it_settles_at_the_capacity_of_the_receiver(base: float, variation: float, power: float) -> None:
    tuned = max(Run(0, base, variation, power, fixed=size).answered for size in (4, 5, 6))
    runs = [Run(seed, base, variation, power) for seed in range(8)]
    assert all(4 <= statistics.median(run.sizes) <= 6 for run in runs)
    within = [sum(4 <= size <= 6 for size in run.sizes) / len(run.sizes) for run in runs]
    assert statistics.mean(within) > 0.9
    assert statistics.mean(run.answered for run in runs) >= 0.9 * tuned
    assert all(run.timeouts <= 0.02 * run.answered for run in runs)
