"""What is wrong, from how things stand: decided without asking anyone, so that any moment can be tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from config import AlertSettings, Pause, in_words

from .gate import paused_by_calendar
from .store.causes import (
    DISK_NEARLY_FULL,
    ENGINES_SILENT,
    NO_DESTINATION,
    NO_OPERATION,
    NOTHING_DELIVERED,
    OLDEST_DUE,
    SWEEPS_SILENT,
)
from .store.watching import Cause, Facts, Failing, OldestDue, Trouble
from .sweep import LONGEST_SWEEP_PAUSE_SECONDS

ROOM_AGAIN = 1.1
"""So many times the limit must be free before a disk is no longer nearly full: it does not come and go."""

_ENGINES = Cause(ENGINES_SILENT, NO_DESTINATION, NO_OPERATION, "engines_silent")
_SWEEPS = Cause(SWEEPS_SILENT, NO_DESTINATION, NO_OPERATION, "sweeps_silent")


@dataclass(frozen=True, slots=True)
class Disks:
    """What is free on the disks of one machine.

    Attributes:
        free: the free share, from 0 to 1, by what the disk is needed for.
    """

    machine: str
    free: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Findings:
    """What there is to tell of, and which open incidents are over; of the others nothing can be said now."""

    there: Sequence[Trouble]
    over: Sequence[Cause]


def findings(
    facts: Facts, settings: AlertSettings, pauses: Mapping[str, Sequence[Pause]], disks: Disks | None
) -> Findings:
    """Return what is wrong now, and what no longer is.

    Where one trouble explains another, only the first is told of: nothing is said of waiting messages while
    their destination is held, its breaker is open, or no engine is alive. Nor is it while the calendar keeps
    everything from the destination; a message that became due meanwhile waits from the end of that pause on.

    Args:
        pauses: those of every destination that the configuration names.
        disks: those of this machine; None where they are not looked at.
    """
    silent = engines_silent(facts, settings.silence)
    there = [silent] if silent else []
    unsure: set[Cause] = set()
    if not silent:
        there += _sweeps_silent(facts, settings.silence)
    elif _SWEEPS in facts.open:
        unsure.add(_SWEEPS)
    due = {each.destination: each for each in facts.oldest_due}
    failing = {each.destination: each for each in facts.failing}
    for name in sorted(due.keys() | failing.keys()):
        waits, stands = _of(OLDEST_DUE, name), _of(NOTHING_DELIVERED, name)
        if silent or name in facts.stopped or paused_by_calendar(pauses.get(name, ()), facts.now):
            unsure |= {waits, stands}
            continue
        calendar = pauses.get(name)
        nothing = None
        if calendar is not None:
            nothing = _nothing_delivered(
                facts, settings.nothing_delivered, calendar, due.get(name), failing.get(name)
            )
        if nothing is not None:
            there.append(nothing)
            unsure.add(waits)
            continue
        if name in failing and not _delivered_within(facts, name, settings.nothing_delivered):
            unsure.add(stands)
        if name in due:
            there += _waits_for_long(facts, settings.oldest_due, calendar, due[name])
    full, perhaps = _disks(facts, settings, disks)
    there += full
    unsure |= perhaps
    over = facts.open.keys() - {each.cause for each in there} - unsure
    return Findings(there, sorted(over, key=lambda cause: (cause.code, cause.destination, cause.operation)))


def _nothing_delivered(
    facts: Facts,
    limit: timedelta,
    calendar: Sequence[Pause],
    oldest: OldestDue | None,
    failing: Failing | None,
) -> Trouble | None:
    """Return the trouble that nothing reaches a destination, by what is due or by what is tried in vain.

    A message that waits for its next try, and is alone, says nothing: it counts while its last one is not
    longer ago than the limit.
    """
    name = next(each.destination for each in (oldest, failing) if each is not None)
    found: list[tuple[datetime, str, int]] = []
    if oldest is not None:
        found.append((oldest.due_at, _waiting(facts, oldest), oldest.message_id))
    if failing is not None and facts.now - failing.last_at < limit:
        text = (
            f"message {failing.message_id}, {failing.operation}, has failed for {_span(facts, failing.since)}"
        )
        found.append((failing.since, text, failing.message_id))
    for since, text, message_id in found:
        begun = paused_by_calendar(calendar, since) or since
        if facts.now - max(begun, facts.last_deliveries.get(name, begun)) >= limit:
            return Trouble(
                _of(NOTHING_DELIVERED, name), f"{_last_delivery(facts, name)}, and {text}", since, message_id
            )
    return None


def _waits_for_long(
    facts: Facts, limit: timedelta, calendar: Sequence[Pause] | None, oldest: OldestDue
) -> list[Trouble]:
    if facts.now - (paused_by_calendar(calendar or (), oldest.due_at) or oldest.due_at) < limit:
        return []
    text = _waiting(facts, oldest)
    if calendar is None:
        text += ", and the configuration names no such destination"
    return [Trouble(_of(OLDEST_DUE, oldest.destination), text, oldest.due_at, oldest.message_id)]


def _delivered_within(facts: Facts, name: str, limit: timedelta) -> bool:
    last = facts.last_deliveries.get(name)
    return last is not None and facts.now - last < limit


def alive(facts: Facts, silence: timedelta) -> int:
    """Return how many engines gave a sign of life lately."""
    return sum(facts.now - each.seen_at < silence for each in facts.engines)


def engines_silent(facts: Facts, silence: timedelta) -> Trouble | None:
    """Return the trouble that no engine is alive, None where one is.

    Where none has ever been seen it is one only once a message has been due for as long as that.
    """
    if alive(facts, silence):
        return None
    if facts.engines:
        last = max(each.seen_at for each in facts.engines)
        return Trouble(_ENGINES, f"the last sign of life was {_ago(facts, last)}", last)
    first = min(facts.oldest_due, key=lambda each: each.due_at, default=None)
    if first is None or facts.now - first.due_at < silence:
        return None
    return Trouble(_ENGINES, f"none was ever seen, and {_waiting(facts, first)}", first.due_at)


def _sweeps_silent(facts: Facts, silence: timedelta) -> list[Trouble]:
    last = max((each.swept_at for each in facts.engines), default=facts.now)
    if facts.now - last < silence + timedelta(seconds=LONGEST_SWEEP_PAUSE_SECONDS):
        return []
    return [Trouble(_SWEEPS, f"the last sweep was {_ago(facts, last)}", last)]


def _disks(facts: Facts, settings: AlertSettings, disks: Disks | None) -> tuple[list[Trouble], set[Cause]]:
    """Return which disks are nearly full, and of which incidents nothing can be said."""
    known = {cause for cause in facts.open if cause.code == DISK_NEARLY_FULL}
    if disks is None:
        return [], known
    # What a machine had to tell that is gone, with all its engines, is over.
    living = {each.machine for each in facts.engines if facts.now - each.seen_at < settings.silence}
    unsure = {cause for cause in known if cause.operation != disks.machine and cause.operation in living}
    full = []
    for what, free in disks.free.items():
        cause = Cause(DISK_NEARLY_FULL, NO_DESTINATION, disks.machine, what)
        if free < settings.disk_free:
            full.append(Trouble(cause, f"{free:.1%} is free", facts.now))
        elif free < ROOM_AGAIN * settings.disk_free:
            unsure.add(cause)
    return full, unsure


def _of(code: str, destination: str) -> Cause:
    return Cause(code, destination, NO_OPERATION, code.replace("-", "_"))


def _last_delivery(facts: Facts, destination: str) -> str:
    last = facts.last_deliveries.get(destination)
    return "no delivery was ever noted" if last is None else f"the last delivery was {_ago(facts, last)}"


def _waiting(facts: Facts, oldest: OldestDue) -> str:
    since = _span(facts, oldest.due_at)
    return f"message {oldest.message_id}, {oldest.operation}, has been due for {since}"


def _ago(facts: Facts, moment: datetime) -> str:
    return f"{_span(facts, moment)} ago"


def _span(facts: Facts, moment: datetime) -> str:
    return in_words(timedelta(seconds=round((facts.now - moment).total_seconds())))
