"""Where a look for due messages begins: past the entries of those claimed before.

While a backup, a report or a forgotten transaction holds an old snapshot, PostgreSQL must keep an
index entry in front of the claim for every message sent since, and each look would walk them all.
So a look begins a little before the earliest message the last one met. A message whose shop commits
late appears below that: at least once a second, or as often as takes a tenth of the time, a look
begins at the very start.
"""

from __future__ import annotations

from datetime import datetime, timedelta

MARGIN = timedelta(seconds=2)
"""How far before the last earliest message a look begins: what most shops' transactions last at most."""
WHOLE_LOOK_SECONDS = 1.0
LARGEST_SHARE = 0.1
"""The share of time that looks from the very start may take."""
LONGEST_PAUSE_SECONDS = 30.0
"""They come at least this often, whatever they take."""


class Frontier:
    """Remembers, for each destination, where the next look may begin."""

    def __init__(self) -> None:
        self._begins: dict[str, datetime] = {}
        self._whole_look_at = float("-inf")
        self._whole = True

    def begin(self, monotonic: float) -> None:
        """Begin a look at this moment."""
        self._whole = monotonic >= self._whole_look_at

    def since(self, destination: str) -> datetime | None:
        """Return from which due time on to look now; None for the very start."""
        return None if self._whole else self._begins.get(destination)

    def met(self, destination: str, earliest: datetime) -> None:
        """Remember the earliest due time this look met, or its own moment where nothing was due."""
        begins, known = earliest - MARGIN, self._begins.get(destination)
        self._begins[destination] = begins if self._whole or known is None else max(known, begins)

    def end(self, monotonic: float, seconds: float) -> None:
        """End the look, which took `seconds`; one from the very start sets when the next such is due."""
        if self._whole:
            pause = min(seconds / LARGEST_SHARE, LONGEST_PAUSE_SECONDS)
            self._whole_look_at = monotonic + max(WHOLE_LOOK_SECONDS, pause)
