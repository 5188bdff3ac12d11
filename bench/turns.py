"""Rounds in turn: one of the one contestant, one of the next, and so on.

What the machine does besides then falls on all alike; neighbouring rounds give a ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from .watching import Watch

R = TypeVar("R")


def in_turn(
    figure: str, rounds: int, watch: Watch, contestants: Mapping[str, Callable[[], R]]
) -> tuple[list[R], ...]:
    """Take `rounds` of each of the named contestants; return each one's, in the order they are named."""
    taken: tuple[list[R], ...] = tuple([] for _ in contestants)
    for n in range(1, rounds + 1):
        for (name, take), into in zip(contestants.items(), taken, strict=True):
            watch.round(f"{figure}, round {n} of {rounds}, {name}")
            into.append(take())
    return taken
