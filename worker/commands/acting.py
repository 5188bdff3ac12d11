"""Doing one thing to several messages, and telling how it went."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from rich.progress import track

from worker.by_hand import NotPossible
from worker.store import finding
from worker.store.finding import Filter
from worker.store.transactions import Store

from . import output
from .arguments import UsageProblem

QUIET_BELOW = 50
"""Fewer messages than this are done before a progress bar would be seen."""

T = TypeVar("T")


def act_on_each(chosen: list[int], act: Callable[[int], T]) -> tuple[list[T], list[str]]:
    """Act on every message chosen; return what was done, and in words what could not be."""
    done: list[T] = []
    refused: list[str] = []
    quiet = len(chosen) < QUIET_BELOW or not output.console.is_terminal
    for message_id in track(chosen, "working", console=output.console, disable=quiet, transient=True):
        try:
            done.append(act(message_id))
        except NotPossible as error:
            refused.append(str(error))
    return done, refused


def report(verb: str, done: list[Any], refused: list[str], json: bool) -> int:
    """Print what a command did to several messages; return its exit status."""
    if json:
        output.print_json({verb: done, "refused": refused})
    else:
        output.console.print(f"{verb}: {len(done)}")
    for line in [] if json else refused:
        sys.stderr.write(f"{line}\n")
    return 1 if refused else 0


def check_named(wanted: Filter, every: bool) -> None:
    """Refuse what names no message, unless every one is meant.

    Raises:
        UsageProblem: it does.
    """
    if wanted.is_empty and not every:
        raise UsageProblem(
            "name messages by number, or give --destination, --operation, --reason, --since, "
            "--incident or --all"
        )


def chosen_dead(store: Store, wanted: Filter) -> list[int]:
    """Return the messages meant: those named, whatever their state, or those the filter finds."""
    if wanted.ids and not wanted.is_shared:
        return list(wanted.ids)
    with store.reading() as transaction:
        return sorted(row["message_id"] for row in finding.dead_letters(transaction, wanted))
