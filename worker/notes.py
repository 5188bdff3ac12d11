"""How destinations stand, in words: the same in a terminal and in the console."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from config import in_words

from .status import DestinationStatus, Status, Way
from .store.standing import LATEST

_SECOND, _MINUTE, _HOUR, _DAY = (timedelta(seconds=each) for each in (1, 60, 3600, 86400))
LAG_TOLD_FROM = timedelta(seconds=10)
"""A search that is behind by less is nothing to tell of."""

_UNITS = ((2 * _DAY, _DAY), (_HOUR, _HOUR), (_MINUTE, _MINUTE))


def roughly(span: timedelta) -> str:
    """Return a duration in its largest unit alone: `27 h`, `40 s`; one that is over is `0 s`."""
    unit = next((unit for least, unit in _UNITS if span >= least), _SECOND)
    return in_words(max(span, timedelta()) // unit * unit)


def since(moment: datetime | None, now: datetime) -> str:
    """Return how long ago a moment was."""
    return "–" if moment is None else roughly(now - moment)


def until(moment: datetime | None, now: datetime) -> str:
    """Return how far ahead a moment lies."""
    if moment is None:
        return "–"
    return f"in {roughly(moment - now)}" if moment > now else "now"


def window_in_words(each: DestinationStatus) -> str:
    """Return how many slots of a destination's window are in use."""
    return "–" if each.window is None else f"{each.in_use} / {each.window}"


def state_in_words(each: DestinationStatus, now: datetime) -> str:
    """Return how the way to a destination is."""
    words = each.way.value
    if each.way is Way.PAUSED and each.paused_until is not None:
        today = each.paused_until - now < _DAY
        words += f" until {each.paused_until.astimezone(UTC):{'%H:%M' if today else '%Y-%m-%d %H:%M'}}"
    return words


def notes(status: Status) -> Iterator[str]:
    """Yield what a person should know besides: a line for each destination that is not simply open."""
    for each in status.destinations:
        yield from notes_of(each, status.now)
    lag = status.lag
    if lag.oldest is not None and status.now - lag.oldest >= LAG_TOLD_FROM:
        waiting = f"{lag.messages} messages by their terms and {lag.texts} texts"
        yield f"search does not find yet: {waiting}, the oldest for {roughly(status.now - lag.oldest)}"
    if status.rates_over < LATEST:
        yield f"per min: of the last {roughly(status.rates_over)}"


def notes_of(each: DestinationStatus, now: datetime, with_texts: bool = True) -> Iterator[str]:
    """Yield what a person should know of one destination that is not simply open.

    Args:
        with_texts: whether texts are told that may be lifted from a reply.
    """
    gate = each.gate
    why = f"{gate['reason']}: {gate['text']}" if with_texts and gate else gate.get("reason")
    if each.way is Way.NOT_CONFIGURED:
        yield f"{each.name} is not configured: its messages wait until it is"
    elif each.way is Way.HELD:
        held = f"held by {gate['changed_by']} since {_moment(gate['changed_at'])} UTC"
        yield f"{each.name} is {held}, {why}"
    if each.next_probe_at is not None:
        at = f", at {_moment(each.next_probe_at)} UTC" if each.next_probe_at > now else ""
        yield f"{each.name}: {each.way}, next probe {until(each.next_probe_at, now)}{at}"
    if each.way in (Way.BREAKER_OPEN, Way.PROBING) and gate["reason"] is not None:
        yield f"{each.name}: it failed, {why}"
    if each.paused_until is not None:
        yield f"{each.name} is paused until {_moment(each.paused_until)} UTC"
    for operation, end in each.paused_operations.items():
        yield f"{each.name}: {operation} is paused until {_moment(end)} UTC"


def _moment(value: datetime | None) -> str:
    return "–" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
