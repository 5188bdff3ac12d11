"""Pauses by the calendar: times of the day at which a destination, or some operations of it, get nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from .values import Strict

_DAY = timedelta(days=1)
_LONGEST_CHAIN = 16


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
    days: Sequence[Day] = Field(default=tuple(Day), min_length=1)
    operations: Sequence[str] = ()

    @model_validator(mode="after")
    def _takes_time(self) -> Pause:
        if self.begin == self.end:
            raise ValueError("give an end that is not its begin; to stop a destination for good, hold it")
        return self

    def end_at(self, now: datetime) -> datetime | None:
        """Return when the pause ends that `now` is in, None outside of it.

        Where a change of the clocks skips a time of the day, the moment right after the change counts for
        it; where one comes twice, the first counts for the begin, the second for the end.
        """
        today = now.astimezone(self.zone).date()
        for day in (today - _DAY, today):
            if _DAYS[day.weekday()] not in self.days:
                continue
            begins = datetime.combine(day, self.begin, self.zone).astimezone(UTC)
            last = day if self.begin < self.end else day + _DAY
            ends = datetime.combine(last, self.end, self.zone).replace(fold=1).astimezone(UTC)
            if begins <= now < ends:
                return ends
        return None


def paused_operations(pauses: Iterable[Pause], now: datetime) -> dict[str, datetime]:
    """Return, by operation, when the pause ends that it is in by name."""
    known = list(pauses)
    names = {name for each in known for name in each.operations}
    ends = {name: paused_until([each for each in known if name in each.operations], now) for name in names}
    return {name: end for name, end in ends.items() if end is not None}


def paused_until(pauses: Iterable[Pause], now: datetime) -> datetime | None:
    """Return when the last of the pauses ends that `now` is in or that follow without a gap; None outside."""
    known, end = list(pauses), None
    for _ in range(_LONGEST_CHAIN):  # by turns they may go on for ever
        later = max((found for each in known if (found := each.end_at(end or now))), default=None)
        if later is None:
            break
        end = later
    return end
