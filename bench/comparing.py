"""What a figure says: rounds of ours beside rounds of a baseline, and what is meant to come of it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .tally import Tally


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure as it was taken.

    The n-th rounds of both sides are neighbours, so that the machine's moods fall on both.

    Attributes:
        figure: its name on the command line.
        unit: of both sides.
        against: what the baseline is, in a few words.
        ours: this service's rounds.
        baseline: the rounds beside them.
        better: whether more of ours is better, or less.
        target: what the median of ours divided by the baseline is meant to be, at least or at most; None
            where nothing is meant.
        most_added: instead of a ratio, what ours may be more than the baseline, in the unit.
        tallies: the receiver's ledger against the database, for each round that sent anything.
        notes: further numbers, by name.
    """

    figure: str
    unit: str
    against: str
    ours: tuple[float, ...]
    baseline: tuple[float, ...]
    better: Literal["higher", "lower"]
    target: float | None
    most_added: float | None = None
    tallies: tuple[Tally, ...] = ()
    notes: Mapping[str, float] = field(default_factory=dict)

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours divided by the baseline, for each pair of neighbouring rounds; 0 where the baseline is 0."""
        pairs = zip(self.ours, self.baseline, strict=True)
        return tuple(ours / baseline if baseline else 0.0 for ours, baseline in pairs)

    @property
    def ratio(self) -> float:
        """The median ratio."""
        return statistics.median(self.ratios)

    @property
    def added(self) -> float:
        """What ours is more than the baseline, in the unit: the median of the pairs."""
        return statistics.median(self.differences)

    @property
    def differences(self) -> tuple[float, ...]:
        """Ours less the baseline, for each pair of neighbouring rounds."""
        return tuple(ours - baseline for ours, baseline in zip(self.ours, self.baseline, strict=True))

    @property
    def met(self) -> bool | None:
        """Whether it is what it is meant to be; None where nothing is meant."""
        if self.most_added is not None:
            return self.added <= self.most_added
        if self.target is None:
            return None
        return self.ratio >= self.target if self.better == "higher" else self.ratio <= self.target
