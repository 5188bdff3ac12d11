"""Pauses by the calendar: times of the day at which a destination, or some operations of it, get nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, ConfigDict, model_validator

from .values import Strict

_DAY = timedelta(days=1)
_LONGEST_CHAIN = 64
_SOME_MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


class Day(StrEnum):
    """A day of the week."""

    MONDAY = "mon"
    TUESDAY = "tue"
    WEDNESDAY = "wed"
    THURSDAY = "thu"
    FRIDAY = "fri"
    SATURDAY = "sat"
    SUNDAY = "sun"


_DAYS = list(Day)


def _time_of_day(value: Any) -> time:
    if isinstance(value, time):
        return value
    try:
        found = datetime.strptime(value, "%H:%M").time()
    except (TypeError, ValueError):
        raise ValueError('write a time of the day such as "02:00"') from None
    return found


def _zone(value: Any) -> ZoneInfo:
    if isinstance(value, ZoneInfo):
        return value
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, TypeError, ValueError, OSError):
        raise ValueError('give a time zone by its name, such as "Europe/London" or "UTC"') from None


def _some(value: Any) -> Any:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("write a list of one at least, or leave it out for all")
    return value


Days = Annotated[tuple[Day, ...], BeforeValidator(_some)]
Names = Annotated[tuple[str, ...], BeforeValidator(_some)]
TimeOfDay = Annotated[time, BeforeValidator(_time_of_day)]
Zone = Annotated[ZoneInfo, BeforeValidator(_zone)]


class Pause(Strict):
    """One entry of `pauses` in the destinations file.

    It begins on the days named. One whose end is earlier in the day than its begin ends on the day after.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", frozen=True)

    begin: TimeOfDay
    end: TimeOfDay
    zone: Zone
    days: Days = tuple(Day)
    operations: Names = ()

    @model_validator(mode="after")
    def _takes_time(self) -> Pause:
        if self.begin == self.end:
            raise ValueError("give an end that is not its begin; to stop a destination for good, hold it")
        return self

    def end_at(self, now: datetime) -> datetime | None:
        """Return when the pause ends that `now` is in, None outside of it.

        Where a change of the clocks skips a time of the day, the moment of the change counts for it; where
        one comes twice, the first counts for the begin, the second for the end.
        """
        today = now.astimezone(self.zone).date()
        for day in (today - _DAY, today):
            if _DAYS[day.weekday()] not in self.days:
                continue
            begins = _moment(day, self.begin, self.zone, fold=0)
            last = day if self.begin < self.end else day + _DAY
            ends = _moment(last, self.end, self.zone, fold=1)
            if begins <= now < ends:
                return ends
        return None


def _moment(day: date, at: time, zone: ZoneInfo, fold: int) -> datetime:
    """Return the moment of a time of the day; of one that a change of the clocks skips, the change's."""
    told = datetime.combine(day, at)
    moment = told.replace(tzinfo=zone, fold=fold).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == told:
        return moment
    before, after = (told.replace(tzinfo=zone, fold=each).astimezone(UTC) for each in (1, 0))
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) / 2
        same = middle.astimezone(zone).utcoffset() == before.astimezone(zone).utcoffset()
        before, after = (middle, after) if same else (before, middle)
    return after.replace(microsecond=0)


def leave_no_time(pauses: Iterable[Pause]) -> bool:
    """Tell whether pauses of everything follow one another without an end."""
    whole = [each for each in pauses if not each.operations]
    return _chain(whole, _SOME_MONDAY)[1]


def paused_operations(pauses: Iterable[Pause], now: datetime) -> dict[str, datetime]:
    """Return, by operation, when the pause ends that it is in by name."""
    known = list(pauses)
    names = {name for each in known for name in each.operations}
    ends = {name: paused_until([each for each in known if name in each.operations], now) for name in names}
    return {name: end for name, end in ends.items() if end is not None}


def paused_until(pauses: Iterable[Pause], now: datetime) -> datetime | None:
    """Return when the last of the pauses ends that `now` is in or that follow without a gap; None outside."""
    return _chain(list(pauses), now)[0]


def _chain(pauses: Sequence[Pause], now: datetime) -> tuple[datetime | None, bool]:
    """Return when pauses end that follow one another, and whether they seem to go on for ever."""
    end = None
    for _ in range(_LONGEST_CHAIN):
        later = max((found for each in pauses if (found := each.end_at(end or now))), default=None)
        if later is None:
            return end, False
        end = later
    return end, True
