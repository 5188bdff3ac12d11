"""Progress on the terminal, while a figure is taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

REFRESHES_A_SECOND = 4
"""Few: drawing takes time from what is measured."""


class Watch:
    """One line that says what is going on, and how far it is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._line = progress.add_task("")
        self._round = ""

    def round(self, name: str) -> None:
        """Begin a round; its name stands before what is going on."""
        self._round = name

    def begin(self, what: str, total: int) -> None:
        """Begin a step of `total` messages."""
        self._progress.reset(self._line, description=f"{self._round}: {what}", total=total)

    def at(self, done: int) -> None:
        """Say how many messages of the step are done."""
        self._progress.update(self._line, completed=done)


@contextmanager
def watching(console: Console) -> Iterator[Watch]:
    """Show progress for the length of the block; nothing where nobody looks."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, refresh_per_second=REFRESHES_A_SECOND
    ) as progress:
        yield Watch(progress)
