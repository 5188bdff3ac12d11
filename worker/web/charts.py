"""The charts of the overview, as numbers to draw by: a template makes lines and bars of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from worker.store.throughput import Slot, Throughput

WIDTH, HEIGHT = 720, 180
LEFT, RIGHT, TOP, BOTTOM = 80, 8, 16, 28
"""The room for what stands beside the lines."""
LINE_HEIGHT = 16
"""What is written below another needs that much room."""
MARKS = 6
"""Moments named below a chart."""


@dataclass(frozen=True, slots=True)
class Span:
    """How far back the charts go, and in what steps.

    Attributes:
        is_live: whether they are drawn anew while they are watched; a day's attempts are many to count.
    """

    name: str
    words: str
    length: timedelta
    step: timedelta
    step_words: str
    is_live: bool


SPANS = {
    each.name: each
    for each in (
        Span("hour", "the last hour", timedelta(hours=1), timedelta(minutes=1), "minute", is_live=True),
        Span(
            "day", "the last 24 hours", timedelta(days=1), timedelta(minutes=20), "20 minutes", is_live=False
        ),
    )
}


class Bar(NamedTuple):
    """A bar: what was delivered stands above the line, what failed hangs below it."""

    x: float
    width: float
    up_y: float
    up_height: float
    down_height: float


class Mark(NamedTuple):
    """A place on an axis, and what is written there."""

    at: float
    words: str


@dataclass(frozen=True, slots=True)
class BarChart:
    """Attempts over time."""

    bars: Sequence[Bar]
    zero: float
    lines: Sequence[Mark]
    moments: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class LineChart:
    """Durations over time: of each line the points, in pieces where there is nothing between."""

    middle: Sequence[str]
    slow: Sequence[str]
    lines: Sequence[Mark]
    moments: Sequence[Mark]


def bar_chart(of: Throughput) -> BarChart:
    """Return the bars of what was delivered and what failed."""
    up = _nice(max((each.delivered for each in of.slots), default=0))
    down = max((each.failed for each in of.slots), default=0)
    room = HEIGHT - TOP - BOTTOM
    below = _nice(down) if down else 0
    scale = room / (up + below)
    zero = TOP + up * scale
    step = _step(of.slots)
    bars = [
        Bar(
            round(LEFT + n * step + step * 0.1, 1),
            round(step * 0.8, 1),
            round(zero - each.delivered * scale, 1),
            round(each.delivered * scale, 1),
            round(each.failed * scale, 1),
        )
        for n, each in enumerate(of.slots)
    ]
    lines = [Mark(round(zero - up * scale, 1), f"{up:g}"), Mark(round(zero, 1), "0")]
    if below * scale >= LINE_HEIGHT:
        lines.append(Mark(round(zero + below * scale, 1), f"{below:g}"))
    return BarChart(bars, round(zero, 1), lines, _moments(of.slots))


def line_chart(of: Throughput) -> LineChart:
    """Return the lines of how long attempts took."""
    most = _nice(max((each.slow for each in of.slots if each.slow is not None), default=0.0))
    scale = (HEIGHT - TOP - BOTTOM) / most
    bottom, step = HEIGHT - BOTTOM, _step(of.slots)

    def pieces(values: Sequence[float | None]) -> list[str]:
        found: list[list[str]] = [[]]
        for n, value in enumerate(values):
            if value is None:
                found.append([])
            else:
                # A point by itself is a short line, or it would not be seen.
                found[-1] += [
                    f"{LEFT + (n + part) * step:.1f},{bottom - value * scale:.1f}" for part in (0.2, 0.8)
                ]
        return [" ".join(each) for each in found if each]

    lines = [Mark(bottom - share * most * scale, _seconds(share * most)) for share in (0, 0.5, 1)]
    return LineChart(
        pieces([each.middle for each in of.slots]),
        pieces([each.slow for each in of.slots]),
        lines,
        _moments(of.slots),
    )


def _step(slots: Sequence[Slot]) -> float:
    return (WIDTH - LEFT - RIGHT) / max(1, len(slots))


def _moments(slots: Sequence[Slot]) -> list[Mark]:
    every = max(1, len(slots) // MARKS)
    step = _step(slots)
    return [
        Mark(round(LEFT + n * step, 1), _time(each.begins))
        for n, each in enumerate(slots)
        if n % every == 0 and n * step < WIDTH - LEFT - RIGHT - step
    ]


def _time(moment: datetime) -> str:
    return f"{moment:%H:%M}"


def _seconds(value: float) -> str:
    return f"{value * 1000:g} ms" if value < 1 else f"{value:g} s"


def _nice(most: float) -> float:
    """Return the end of an axis that `most` fits on: 1, 2 or 5, and noughts."""
    if most <= 0:
        return 1
    power = 10.0 ** math.floor(math.log10(most))
    return next(round(each * power, 9) for each in (1, 2, 5, 10) if each * power >= most * 0.999_999)
