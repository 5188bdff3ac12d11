"""Draws `docs/outage.svg`, an outage and its end, from a run in virtual time: `python -m bench.outage`."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from config import load

from .virtual import DOWN, OK, Answer, World

FILE = Path(__file__).parents[1] / "docs" / "outage.svg"
MINUTE = 60.0
BEGINS, ENDS, SHOWN = 20 * MINUTE, 100 * MINUTE, 130 * MINUTE
ARRIVING_PER_SECOND = 1.0
ZOOMED_SECONDS = 6.0

WIDTH, HEIGHT = 900, 420
INK, BLUE, RED, SHADE = "#444", "#1565c0", "#c62828", "#f3e0e0"


@dataclass(frozen=True, slots=True)
class Panel:
    """A part of the picture with scales of its own."""

    left: float
    top: float
    width: float
    height: float
    from_x: float
    to_x: float
    to_y: float

    def x(self, value: float) -> float:
        return round(self.left + self.width * (value - self.from_x) / (self.to_x - self.from_x), 1)

    def y(self, value: float) -> float:
        return round(self.top + self.height * (1 - value / self.to_y), 1)

    def line(self, points: Sequence[tuple[float, float]], colour: str) -> str:
        """Return a line through points."""
        path = " ".join(f"{self.x(x)},{self.y(y)}" for x, y in points)
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>'

    def steps(self, points: Sequence[tuple[float, float]], colour: str) -> str:
        """Return a line that keeps each value until the next."""
        stepped = []
        for (x, y), (later, _) in zip(points, [*points[1:], (self.to_x, 0.0)], strict=True):
            stepped += [(x, y), (min(later, self.to_x), y)]
        return self.line(stepped, colour)

    def ticks(self, moments: Sequence[float], colour: str) -> str:
        """Return a mark at the foot for each moment."""
        foot = self.top + self.height
        marks = " ".join(f"M{self.x(at)} {foot}v-14" for at in moments)
        return f'<path d="{marks}" stroke="{colour}" stroke-width="1.6"/>'

    def frame(
        self, title: str, xs: Sequence[float], ys: Sequence[float], unit: Callable[[float], str]
    ) -> str:
        """Return axes with their numbers."""
        parts = [
            f'<rect x="{self.left}" y="{self.top}" width="{self.width}" height="{self.height}" '
            f'fill="none" stroke="{INK}" stroke-width="0.6"/>',
            _text(self.left, self.top - 10, title, "start", 13),
        ]
        parts += [_text(self.x(x), self.top + self.height + 16, unit(x), "middle") for x in xs]
        parts += [_text(self.left - 6, self.y(y) + 4, f"{y:g}", "end") for y in ys]
        return "\n".join(parts)


def drawn() -> str:
    """Return the picture."""
    destination = load(need_secrets=False).destinations["main"]
    due = [number / ARRIVING_PER_SECOND for number in range(int(SHOWN * ARRIVING_PER_SECOND))]
    world = World(destination, due, _down_for_a_while)
    world.run(SHOWN)
    waiting = [(each.at, float(bisect_right(due, each.at) - each.delivered)) for each in world.moments]
    probes = [each.at for each in world.sent if each.probe]
    answered = probes[-1]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_whole(waiting, probes),
        *_zoomed(world, answered),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _whole(waiting: Sequence[tuple[float, float]], probes: Sequence[float]) -> list[str]:
    most = max(number for _, number in waiting)
    panel = Panel(60, 40, 800, 150, 0, SHOWN, most * 1.1)
    shade = (
        f'<rect x="{panel.x(BEGINS)}" y="40" width="{panel.x(ENDS) - panel.x(BEGINS):.1f}" height="150" '
        f'fill="{SHADE}"/>'
    )
    title = (
        f"Messages waiting, and each probe (red): down for {(ENDS - BEGINS) / MINUTE:g} min, "
        f"{ARRIVING_PER_SECOND:g} message/s coming in, {len(probes)} probes"
    )
    minutes = [number * 20 * MINUTE for number in range(7)]
    return [
        shade,
        panel.frame(title, minutes, [0, 2000, 4000], lambda x: f"{x / MINUTE:g} min"),
        panel.line(waiting[:: max(1, len(waiting) // 600)], BLUE),
        panel.ticks(probes, RED),
    ]


def _zoomed(world: World, answered: float) -> list[str]:
    ends = answered + ZOOMED_SECONDS
    panel = Panel(60, 240, 800, 140, answered - 1, ends, 9)
    windows = [(each.at, float(each.window)) for each in world.moments if answered - 1 <= each.at <= ends]
    progress = [(each.at, float(each.in_progress)) for each in world.sent if answered - 1 <= each.at <= ends]
    dots = " ".join(f"M{panel.x(x)} {panel.y(y)}h2" for x, y in progress)
    title = "The first seconds after the probe that is answered: the window, and requests in progress (dots)"
    seconds = [answered + number for number in range(int(ZOOMED_SECONDS) + 1)]
    return [
        panel.frame(title, seconds, [0, 1, 2, 4, 8], lambda x: f"{x - answered:.0f} s"),
        panel.steps(windows, RED),
        f'<path d="{dots}" stroke="{BLUE}" stroke-width="2"/>',
    ]


def _down_for_a_while(now: float, _in_progress: int, _message: int, chance: random.Random) -> Answer:
    if BEGINS <= now < ENDS:
        return Answer(0.05, DOWN)
    return Answer(0.2 * max(0.5, chance.gauss(1, 0.1)), OK)


def _text(x: float, y: float, words: str, anchor: str, size: int = 11) -> str:
    place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
    return f'<text {place} fill="{INK}" font-size="{size}">{words}</text>'


if __name__ == "__main__":
    FILE.write_text(drawn(), encoding="utf-8")
