"""`status`: how the destinations stand, once or again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.live import Live

from config import load
from orderflow_outbox import State
from worker.database import DatabaseTrouble, trouble_in_one_line
from worker.gate import OPEN
from worker.status import DestinationStatus, Status, look_at
from worker.store.standing import AGES

from . import output
from .arguments import opened_store
from .picture import Picture

REFRESHED_EVERY_SECONDS = 2
FINISHED = (State.DELIVERED, State.DEAD, State.SUPERSEDED, State.CANCELLED)

Show = Callable[[Status | None, str | None], None]
"""Shows a status and why there is no newer one; of both there is one at least."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("status")(status_command)


def status_command(
    totals: Annotated[
        bool, typer.Option("--totals", help="Count the finished too, which reads every message there is.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help=f"Look again every {REFRESHED_EVERY_SECONDS} s, until Ctrl-C."),
    ] = False,
    json: output.Json = False,
) -> None:
    """Show how each destination stands, the ages of what waits, and the open incidents."""
    destinations = load(need_secrets=False).destinations
    with opened_store() as store:

        def look() -> Status:
            with trouble_in_one_line(), store.reading() as transaction:
                return look_at(transaction, destinations, totals)

        if not watch:
            (_print_json if json else _print)(look(), None)
            return
        with suppress(KeyboardInterrupt), _screen(json) as show:
            keep_showing(look, show, time.sleep)


def keep_showing(look: Callable[[], Status], show: Show, wait: Callable[[float], None]) -> None:
    """Show how things stand again and again; while there is no telling, say so below what was seen last.

    Args:
        wait: lets so many seconds pass; what it raises ends the showing.
    """
    seen = None
    while True:
        trouble = None
        try:
            seen = look()
        except DatabaseTrouble as error:
            trouble = str(error)
        show(seen, trouble)
        wait(REFRESHED_EVERY_SECONDS)


@contextmanager
def _screen(json: bool) -> Iterator[Show]:
    """Yield what shows a status: in the place of the last one, or below it where there is no terminal."""
    if json or not output.console.is_terminal or output.console.is_dumb_terminal:
        yield _print_json if json else _print
        return
    with Live(console=output.console, auto_refresh=False) as live:
        yield lambda status, trouble: live.update(Picture(status, trouble), refresh=True)


def _print(status: Status | None, trouble: str | None) -> None:
    output.console.print(Picture(status, trouble))


def _print_json(status: Status | None, trouble: str | None) -> None:
    output.print_json({"trouble": trouble} if status is None or trouble else status_json(status))
    sys.stdout.flush()


def status_json(status: Status) -> dict[str, Any]:
    """Return a status as one JSON object."""
    return {
        "at": status.now,
        "rates_over_seconds": status.rates_over.total_seconds(),
        "destinations": [_destination_json(each, status) for each in status.destinations],
        "incidents": [output.as_json(row) for row in status.incidents],
        "not_searched_yet": {
            "messages": status.lag.messages,
            "texts": status.lag.texts,
            "oldest_seconds": _seconds_since(status.lag.oldest, status.now),
        },
    }


def _destination_json(each: DestinationStatus, status: Status) -> dict[str, Any]:
    standing, gate = each.standing, each.gate
    bounds = [*(age.total_seconds() for age in AGES), None]
    return {
        "destination": each.name,
        "state": each.way,
        "configured": each.configured is not None,
        "gate": gate.get("state", OPEN),
        **{f"gate_{name}": gate.get(name) for name in ("reason", "text", "changed_by", "changed_at")},
        "next_probe_at": each.next_probe_at,
        "paused_until": each.paused_until,
        "paused_operations": each.paused_operations,
        "window": each.window,
        "rate": None if each.rate is None else str(each.rate),
        "slots_in_use": each.in_use,
        "pending": standing.pending,
        "due": standing.due,
        "parked": standing.parked,
        "sending": standing.sending,
        "open_letters": standing.open_letters,
        **({state.value: each.finished.get(state, 0) for state in FINISHED} if status.has_totals else {}),
        "oldest_seconds": _seconds_since(standing.oldest_at, status.now),
        "oldest_due_seconds": _seconds_since(standing.oldest_due_at, status.now),
        "delivered_per_minute": each.delivered_per_minute,
        "failed_per_minute": each.failed_per_minute,
        "ages": [
            {"up_to_seconds": bound, "messages": number}
            for bound, number in zip(bounds, standing.ages, strict=True)
        ],
    }


def _seconds_since(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else (now - moment).total_seconds()
