"""How many requests a destination is given at once: pure, a function of how it answers, and `now`.

The window follows the receiver. It grows while answers come as fast as they can, shrinks when they take well
longer than at their best, and is halved when the destination fails. Where it has been higher before, as after
an outage, it doubles on its way back; from there on it grows one by one. Between growing and shrinking lies a
band in which it stays, and after it had to shrink it waits before it tries again.

What is best changes: now and then it is measured anew, with half the window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

FIRST_SIZE = 4
"""The window of a destination that nothing is known of."""
FEWEST_ANSWERS = 32
"""So many answers at least say how long one takes."""
GROWS_WITHIN = 1.1
SHRINKS_FROM = 1.3
"""Times its best that an answer may take."""
LEAST_RISE_SECONDS = 0.05
"""A rise that is smaller may be our own doing."""
PATIENCE = 8
"""So many windows of answers go by after one had to shrink, before it grows again."""
MEASURED_EVERY = timedelta(minutes=2)
MEASURING_SHARE = 0.05
"""The share of time that may be spent on measuring."""
LOWERING = 0.05
"""How much a faster window counts towards the best: a few fast answers may be luck."""


class Answers(NamedTuple):
    """Good answers to requests that were begun since the window last changed.

    Attributes:
        number: how many.
        seconds: how long they took, together.
    """

    number: int = 0
    seconds: float = 0.0


NONE = Answers()


@dataclass(frozen=True, slots=True)
class Window:
    """How many requests may be in progress, and what is known of how they are answered.

    Attributes:
        size: the window itself.
        ramp_to: up to this it doubles.
        since: when it last changed.
        answers: to requests begun since.
        best: seconds that an answer takes at its best; None when that is to be found out.
        best_at: when that was found out.
        patience: windows of answers to wait before it grows.
    """

    size: int
    ramp_to: int
    since: datetime
    answers: Answers = NONE
    best: float | None = None
    best_at: datetime | None = None
    patience: int = 0


def first_window(limit: int, now: datetime) -> Window:
    """Return the window of a destination that nothing is known of.

    Args:
        limit: the configured window, which it never goes past.
    """
    return Window(size=min(FIRST_SIZE, limit), ramp_to=limit, since=now)


def answered(window: Window, answers: Answers, *, limit: int, is_limiting: bool, now: datetime) -> Window:
    """Return the window after more good answers.

    Args:
        answers: to requests begun since it last changed.
        limit: the configured window, which it never goes past.
        is_limiting: whether more would be sent if it were larger; if not, there is no reason to grow.
    """
    total = Answers(window.answers.number + answers.number, window.answers.seconds + answers.seconds)
    if window.size > limit:
        return _changed(window, limit, now)
    if total.number < _needed(window):
        return replace(window, answers=total)
    return _judged(window, total.seconds / total.number, total.number, limit, is_limiting, now)


def failed(window: Window, begun_at: datetime, now: datetime) -> Window:
    """Return the window halved after a failure of the destination, once for all requests of one window.

    Args:
        begun_at: when the request was begun that failed.
    """
    if begun_at < window.since:
        return window
    half = max(1, window.size // 2)
    return replace(_changed(window, half, now), ramp_to=half)


def reopened(window: Window, limit: int, now: datetime) -> Window:
    """Return the window as it is after an outage: one, and doubling, for as long as the answers are good."""
    known_at = None if window.best is None else now  # what it was before is what it is hoped to be again
    return replace(_changed(window, 1, now), ramp_to=limit, best_at=known_at, patience=0)


def _needed(window: Window) -> int:
    """Return how many answers it takes to judge: on the way up one window, else enough to be sure."""
    ramps = window.size < window.ramp_to and window.best is not None
    return window.size if ramps or _is_blind(window) else max(window.size, FEWEST_ANSWERS)


def _is_blind(window: Window) -> bool:
    """Tell whether the window is on its way back to its first size, nothing having been measured before."""
    return window.best_at is None and window.size < min(FIRST_SIZE, window.ramp_to)


def _judged(
    window: Window, seconds: float, number: int, limit: int, is_limiting: bool, now: datetime
) -> Window:
    if _is_blind(window):
        return _changed(window, min(window.size * 2, window.ramp_to, limit), now) if is_limiting else window
    known = _with_best(window, seconds, number, now)
    best = known.best or seconds
    shrinks_from = max(best * SHRINKS_FROM, best + LEAST_RISE_SECONDS)
    grows_within = max(best * GROWS_WITHIN, best + LEAST_RISE_SECONDS / 2)
    if seconds >= shrinks_from and known.size > 1:
        return _shrunk(known, now)
    if _is_stale(known, best, now):
        return replace(_changed(known, max(1, known.size // 2), now), ramp_to=known.size, best=None)
    if known.size < known.ramp_to and seconds < shrinks_from and is_limiting:
        return _changed(known, min(known.size * 2, known.ramp_to, limit), now)
    if known.patience or seconds > grows_within or not is_limiting or known.size >= limit:
        return replace(known, answers=NONE, patience=max(0, known.patience - 1))
    return replace(_changed(known, known.size + 1, now), ramp_to=known.size + 1)


def _is_stale(window: Window, best: float, now: datetime) -> bool:
    """Tell whether the best is to be measured anew; where that takes long, it is done less often."""
    takes = timedelta(seconds=best * FEWEST_ANSWERS / max(1, window.size // 2))
    pause = max(MEASURED_EVERY, takes / MEASURING_SHARE)
    return window.best_at is not None and now - window.best_at >= pause


def _with_best(window: Window, seconds: float, number: int, now: datetime) -> Window:
    if window.best is None:
        return replace(window, best=seconds, best_at=now)
    if seconds < window.best and number >= FEWEST_ANSWERS:
        return replace(window, best=window.best + (seconds - window.best) * LOWERING)
    return window


def _shrunk(window: Window, now: datetime) -> Window:
    if window.size < window.ramp_to:  # doubled too far
        half = math.ceil(window.size / 2)
        return replace(_changed(window, half, now), ramp_to=half)
    return replace(_changed(window, window.size - 1, now), ramp_to=window.size - 1, patience=PATIENCE)


def _changed(window: Window, size: int, now: datetime) -> Window:
    return replace(window, size=size, since=now, answers=NONE)
