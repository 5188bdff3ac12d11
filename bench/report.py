"""What the figures say: a list for machines, a table for people."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from .comparing import Comparison

VERDICTS = {True: "met", False: "missed", None: ""}


def as_json(each: Comparison) -> dict[str, Any]:
    """Return a figure in plain values."""
    return {
        "figure": each.figure,
        "ratio": each.ratio,
        "target": each.target if each.most_added is None else each.most_added,
        "met": each.met,
        "better": each.better,
        "unit": each.unit,
        "against": each.against,
        "ours": each.ours,
        "baseline": each.baseline,
        "least_ratio": min(each.ratios),
        "greatest_ratio": max(each.ratios),
        "added": each.added,
        "most_added": each.most_added,
        "messages": sum(tally.messages for tally in each.tallies),
        "lost": sum(tally.lost for tally in each.tallies),
        "duplicates": sum(tally.duplicates for tally in each.tallies),
        "notes": dict(each.notes),
    }


def complaint(comparisons: Sequence[Comparison]) -> str | None:
    """Return in one line what was lost or received twice, or None."""
    told = [as_json(each) for each in comparisons]
    wrong = [
        f"{each['figure']}: {each['lost']} lost, {each['duplicates']} received twice"
        for each in told
        if each["lost"] or each["duplicates"]
    ]
    return "; ".join(wrong) or None


def show(comparisons: Sequence[Comparison], console: Console) -> None:
    """Print the figures for people."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("figure", "ours", "baseline", "against", "ratio (least–greatest)", "meant to be", ""):
        table.add_column(heading, justify="right" if heading in {"ours", "baseline"} else "left")
    for each in comparisons:
        table.add_row(
            f"{each.figure}, {each.unit}",
            number(statistics.median(each.ours)),
            number(statistics.median(each.baseline)),
            each.against,
            _compared(each),
            meant(each),
            VERDICTS[each.met],
        )
    console.print(table)
    for each in comparisons:
        console.print(f"{each.figure}: {_besides(each)}")


def meant(each: Comparison) -> str:
    """Return what a figure is meant to be."""
    if each.most_added is not None:
        return f"≤ {number(each.most_added)} {each.unit} more"
    if each.target is None:
        return ""
    return f"{'≥' if each.better == 'higher' else '≤'} {each.target:g}"


def _compared(each: Comparison) -> str:
    """Return the ratio, or where that is what counts, what is added."""
    if each.most_added is not None:
        least, greatest = min(each.differences), max(each.differences)
        return f"{each.added:+.3g} {each.unit} ({least:.3g}–{greatest:.3g})"
    return f"{each.ratio:.3g}× ({min(each.ratios):.3g}–{max(each.ratios):.3g})"


def number(value: float) -> str:
    """Return a number with three digits that count, or all before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _besides(each: Comparison) -> str:
    """Return in one line how many rounds there were, what became of the messages, and the notes."""
    told = as_json(each)
    parts = [f"{len(each.ours)} rounds"]
    if each.tallies:
        parts.append(
            f"{told['messages'] - told['lost']} of {told['messages']} messages accepted, "
            f"{told['duplicates']} received twice"
        )
    return "; ".join([*parts, *(f"{name} {number(value)}" for name, value in each.notes.items())])
