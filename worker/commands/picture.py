"""The picture that `status` draws: how destinations stand, the ages of what waits, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from config import in_words
from orderflow_outbox import State
from worker.notes import notes, since, state_in_words, until, window_in_words
from worker.status import DestinationStatus, Status
from worker.store.finding import Row
from worker.store.standing import AGES

from . import output

ALL = "TOTAL"
"""The line of all destinations; none can have that name."""
GAP = 2
"""Blanks between two columns."""
SHORT_NAME = 24
"""Longer names are cut before a column is dropped."""
NARROWEST_NAME = 8


@dataclass(frozen=True, slots=True)
class Picture:
    """A status as a person sees it, as wide as there is room.

    Attributes:
        status: what was seen last; None where nothing was yet.
        trouble: why there is nothing newer.
    """

    status: Status | None
    trouble: str | None = None

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts, from the top down."""
        status = self.status
        if status is not None:
            yield _fitted(_standing(status), options.max_width)
            yield from (output.plain(note) for note in notes(status))
            yield Text()
            yield _fitted(_ages(status), options.max_width, title="waiting or being sent, by age up to")
            if status.has_totals:
                yield Text()
                yield _fitted(_totals(status), options.max_width, title="all messages")
            yield from (_incident(each) for each in status.incidents)
        if self.trouble is not None:
            shown = output.plain(self.trouble)
            shown.stylize("bold red")
            yield shown


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        dropped: where they do not all fit, the column with the highest number goes first; those of 0 stay.
    """

    header: str
    cells: Sequence[Text]
    dropped: int = 0
    is_number: bool = True

    @property
    def width(self) -> int:
        """How wide it is when nothing of it is cut."""
        return max(map(cell_len, [*self.header.split("\n"), *(each.plain for each in self.cells)]))


def _fitted(columns: Sequence[Column], width: int, title: str | None = None) -> Table:
    """Return a table of the columns that fit, with the names in the first one cut if need be."""
    kept, names = list(columns), columns[0].width

    def missing(width_of_names: int) -> int:
        return width_of_names + sum(each.width + GAP for each in kept[1:]) - width

    while missing(min(names, SHORT_NAME)) > 0 and any(each.dropped for each in kept):
        kept.remove(max(kept, key=lambda each: each.dropped))
    table = output.table(title=title)
    for column in kept:
        table.add_column(
            column.header, justify="right" if column.is_number else "left", vertical="bottom", no_wrap=True
        )
    table.columns[0].max_width = max(NARROWEST_NAME, names - max(0, missing(names)))
    for line in zip(*(column.cells for column in kept), strict=True):
        table.add_row(*line)
    return table


def _standing(status: Status) -> list[Column]:
    """Return the columns of how each destination stands."""
    now = status.now

    def column(
        header: str,
        of: Callable[[DestinationStatus], Text | str | int],
        dropped: int = 0,
        is_number: bool = True,
    ) -> Column:
        cells = [
            value if isinstance(value := of(each), Text) else Text(str(value)) for each in status.destinations
        ]
        return Column(header, cells, dropped, is_number)

    rates = [column("rate", lambda each: str(each.rate or "–"), dropped=5)]
    probes = [column("next\nprobe", lambda each: until(each.next_probe_at, now), dropped=7)]
    return [
        column("destination", lambda each: output.plain(each.name), is_number=False),
        column("state", lambda each: _state(each, now), is_number=False),
        column("window", window_in_words, dropped=4),
        *(rates if any(each.rate for each in status.destinations) else ()),
        column("pending", lambda each: each.standing.pending, dropped=10),
        column("due", lambda each: each.standing.due, dropped=1),
        column("parked", lambda each: each.standing.parked, dropped=6),
        column("sending", lambda each: each.standing.sending, dropped=11),
        column("letters", lambda each: each.standing.open_letters, dropped=8),
        column("oldest", lambda each: since(each.standing.oldest_at, now), dropped=2),
        column("late", lambda each: since(each.standing.oldest_due_at, now), dropped=9),
        column("delivered\nper min", lambda each: _rate(each.delivered_per_minute), dropped=4),
        column("failed\nper min", lambda each: _rate(each.failed_per_minute), dropped=3),
        *(probes if any(each.next_probe_at for each in status.destinations) else ()),
    ]


def _totals(status: Status) -> list[Column]:
    """Return the columns of how many messages are in each state."""
    rows = status.destinations
    return [
        Column("destination", [output.plain(each.name) for each in rows], is_number=False),
        *(
            Column(state, [_count(each.finished.get(state, 0)) for each in rows], dropped=place)
            for place, state in enumerate(State)
        ),
    ]


def _ages(status: Status) -> list[Column]:
    """Return the columns of how many messages there are of each age, as Postfix's qshape has them."""
    names = [each.name for each in status.destinations]
    counts = [each.standing.ages for each in status.destinations]
    if len(names) > 1:
        names = [ALL, *names]
        counts = [[sum(of_age) for of_age in zip(*counts, strict=True)], *counts]
    headers = [*map(in_words, AGES), "older"]
    return [
        Column("destination", [output.plain(name) for name in names], is_number=False),
        Column("total", [_count(sum(each)) for each in counts]),
        *(
            Column(header, [_count(each[place]) for each in counts], dropped=len(headers) - place)
            for place, header in enumerate(headers)
        ),
    ]


def _count(number: int) -> Text:
    return Text(str(number), style="" if number else "dim")


def _rate(per_minute: float) -> str:
    return f"{per_minute:.0f}" if per_minute >= 10 or not per_minute else f"{per_minute:.1f}"


def _state(each: DestinationStatus, now: datetime) -> Text:
    return Text(state_in_words(each, now), style=output.STATE_STYLES[each.way])


def _incident(incident: Row) -> Text:
    of = (incident[name] for name in ("cause", "destination", "operation", "reason"))
    what = " ".join(each for each in of if each)
    line = f"incident {incident['id']}: {what}, {incident['occurrences']} ×, since"
    return output.plain(f"{line} {output.moment(incident['opened_at'])} UTC")
