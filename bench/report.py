"""What the figures say: numbers for machines, a table for people."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from .claiming import DUE, ClaimTimes
from .drain import DrainRound
from .enqueue import TRANSACTIONS_A_ROUND, Enqueued
from .figures import Pairs, Plan
from .judging import Judged
from .latency import MESSAGES_A_SECOND, LatencyRound, quantile
from .tally import Tally
from .window import WindowRound

FIGURES = ("drain", "latency")
"""Those of messages that arrive."""
TRANSACTIONS = ("enqueue-postgresql", "enqueue-sqlite")
"""Those of a shop's transactions."""
CLAIMS = ("claim-postgresql", "claim-sqlite")
"""Those of claims while others are parked."""
JUDGING = ("judge-1", "judge-500")
"""Those of replies that are judged, by the number of their items."""
AT_MOST = {
    "enqueue-postgresql": 1.5,
    "enqueue-sqlite": 1.5,
    "claim-postgresql": 1.5,
    "claim-sqlite": 1.5,
    "judge-1": 5.0,
    "judge-500": 2.0,
}
"""What a ratio is meant to be; of these figures the lower is the better."""
WINDOW = ("window",)
"""That of a receiver that slows down."""
AT_LEAST = {"window": 0.9}
SIDES = ("outbox", "plain")
SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "max": 1.0}


def drain_report(pairs: Pairs[DrainRound]) -> dict[str, Any]:
    """Return the drain rates in messages per second; the ratio is the outbox's to the plain task's."""
    outbox, plain = ([each.rate for each in rounds] for rounds in (pairs.outbox, pairs.plain))
    return {
        "unit": "messages/s",
        "outbox": {**_rates(outbox), **_sum(pairs.outbox)},
        "plain": {**_rates(plain), **_sum(pairs.plain)},
        "ratio": _ratio(outbox, plain),
    }


def latency_report(pairs: Pairs[LatencyRound]) -> dict[str, Any]:
    """Return the latencies in ms; the ratio is of medians, the plain task's to the outbox's."""
    outbox, plain = (
        [quantile(each.milliseconds, SHARES["p50"]) for each in rounds]
        for rounds in (pairs.outbox, pairs.plain)
    )
    return {
        "unit": "ms",
        "outbox": {**_latencies(pairs.outbox, outbox), **_sum(pairs.outbox)},
        "plain": {**_latencies(pairs.plain, plain), **_sum(pairs.plain)},
        "ratio": _ratio(plain, outbox),
    }


def enqueue_report(taken: Enqueued) -> dict[str, Any]:
    """Return the times of a transaction in ms; the ratio is of the one with a message to the one without."""
    return {
        "unit": "ms",
        "outbox": _rates(taken.with_message),
        "plain": _rates(taken.alone),
        "ratio": _ratio(taken.with_message, taken.alone),
        "many_per_second": _rounded(taken.many),
    }


def claim_report(taken: ClaimTimes) -> dict[str, Any]:
    """Return the times of a claim in ms; the ratio is of the one with followers parked to the one without."""
    return {
        "unit": "ms",
        "outbox": _rates(taken.crowded),
        "plain": _rates(taken.alone),
        "ratio": _ratio(taken.crowded, taken.alone),
    }


def judge_report(taken: Judged) -> dict[str, Any]:
    """Return what a reply takes in µs; the ratio is of judging it to parsing it alone."""
    return {
        "unit": "µs",
        "outbox": _rates(taken.judging),
        "plain": _rates(taken.parsing),
        "ratio": _ratio(taken.judging, taken.parsing),
        "per_second": _rounded(1e6 / statistics.median(taken.judging)),
    }


def window_report(pairs: Pairs[WindowRound]) -> dict[str, Any]:
    """Return rates in messages per second; the ratio is of the one that follows to the one chosen by hand."""
    outbox, plain = ([each.rate for each in rounds] for rounds in (pairs.outbox, pairs.plain))
    return {
        "unit": "messages/s",
        "outbox": _rates(outbox),
        "plain": _rates(plain),
        "ratio": _ratio(outbox, plain),
        "settled_at": statistics.median(each.settled_at for each in pairs.outbox),
        "timed_out": max(each.timed_out for each in pairs.outbox),
    }


def verdicts(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each figure's ratio, which way it is better, and whether it is what it is meant to be.

    `target` and `met` are None for a figure that is meant to be nothing in particular.
    """
    return [
        _verdict(name, report[name]["ratio"]["median"])
        for name in _taken(report, FIGURES + TRANSACTIONS + CLAIMS + JUDGING + WINDOW)
    ]


def _verdict(name: str, ratio: float) -> dict[str, Any]:
    lower = name in AT_MOST
    target = AT_MOST.get(name, AT_LEAST.get(name))
    return {
        "figure": name,
        "ratio": ratio,
        "better": "lower" if lower else "higher",
        "target": target,
        "met": None if target is None else (ratio <= target if lower else ratio >= target),
    }


def complaint(report: dict[str, Any]) -> str | None:
    """Return in one line what was lost or received twice, or None."""
    sides = [
        (f"{figure}, {name}", report[figure][name]) for figure in _taken(report, FIGURES) for name in SIDES
    ]
    wrong = [
        f"{name}: {side['lost']} lost, {side['duplicates']} received twice"
        for name, side in sides
        if side["lost"] or side["duplicates"]
    ]
    return "; ".join(wrong) or None


def show(report: dict[str, Any], plan: Plan, console: Console) -> None:
    """Print the figures for people."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    headings = ("figure", "outbox", "plain", "ratio (least–greatest)", "meant to be", "each round, in turn")
    for heading in headings:
        table.add_column(heading, justify="left" if heading.startswith(("figure", "each")) else "right")
    if "drain" in report:
        figure = report["drain"]
        table.add_row(
            "drain, messages/s", *_cells(figure, "median", 0), _times(figure), "", _rounds(figure, 0)
        )
    if "latency" in report:
        figure = report["latency"]
        for name in SHARES:
            further = (_times(figure), "", _rounds(figure, 1)) if name == "p50" else ()
            table.add_row(f"latency {name}, ms", *_cells(figure, name, 1), *further)
    for name in _taken(report, TRANSACTIONS):
        _add_transactions(table, name, report[name])
    for name in _taken(report, CLAIMS):
        _add_claims(table, name, report[name])
    for name in _taken(report, JUDGING):
        _add_judging(table, name, report[name])
    for name in _taken(report, WINDOW):
        _add_window(table, name, report[name])
    console.print(table)
    for name in _taken(report, FIGURES):
        console.print(f"{name}: {'; '.join(_account(side, report[name][side]) for side in SIDES)}")
    if not _taken(report, FIGURES):
        return
    console.print(
        f"{plan.messages} and {plan.plain_messages} messages in each round of drain, "
        f"{MESSAGES_A_SECOND} messages/s for {plan.seconds:g} s in each of latency; "
        f"window {plan.window} for two engines together, prefetch multiplier {plan.prefetch}"
    )


def _taken(report: dict[str, Any], names: Sequence[str]) -> list[str]:
    return [name for name in names if name in report]


def _add_transactions(table: Table, name: str, figure: dict[str, Any]) -> None:
    rounds = f"{len(figure['ratio']['rounds'])} of {TRANSACTIONS_A_ROUND} transactions"
    cells = (*_cells(figure, "median", 3), _times(figure), _meant(name, figure))
    table.add_row(f"{name}, ms", *cells, rounds)
    table.add_row("  many at once, messages/s", f"{figure['many_per_second']:.0f}")


def _add_claims(table: Table, name: str, figure: dict[str, Any]) -> None:
    cells = (*_cells(figure, "median", 2), _times(figure), _meant(name, figure))
    table.add_row(f"{name}, ms", *cells, f"{len(figure['ratio']['rounds'])} of {DUE} messages")


def _add_judging(table: Table, name: str, figure: dict[str, Any]) -> None:
    cells = (*_cells(figure, "median", 1), _times(figure), _meant(name, figure))
    table.add_row(f"{name}, µs", *cells, f"{len(figure['ratio']['rounds'])} rounds")
    table.add_row("  replies/s", f"{figure['per_second']:.0f}")


def _add_window(table: Table, name: str, figure: dict[str, Any]) -> None:
    settled = f"settled at {figure['settled_at']:g}, {figure['timed_out']:.1%} timed out"
    cells = (*_cells(figure, "median", 1), _times(figure), _meant(name, figure))
    table.add_row(f"{name}, messages/s", *cells, settled)


def _meant(name: str, figure: dict[str, Any]) -> str:
    verdict = _verdict(name, figure["ratio"]["median"])
    sign = "≤" if verdict["better"] == "lower" else "≥"
    return f"{sign} {verdict['target']:g}, {'met' if verdict['met'] else 'missed'}"


def _cells(figure: dict[str, Any], name: str, digits: int) -> list[str]:
    return [f"{figure[side][name]:.{digits}f}" for side in SIDES]


def _times(figure: dict[str, Any]) -> str:
    ratio = figure["ratio"]
    return f"{ratio['median']:.2f}× ({ratio['min']:.2f}–{ratio['max']:.2f})"


def _rounds(figure: dict[str, Any], digits: int) -> str:
    pairs = zip(*(figure[side]["rounds"] for side in SIDES), strict=True)
    return ", ".join(f"{ours:.{digits}f} and {theirs:.{digits}f}" for ours, theirs in pairs)


def _account(name: str, side: dict[str, Any]) -> str:
    return f"{name} {side['accepted']} of {side['messages']} accepted, {side['duplicates']} received twice"


def _rates(rates: Sequence[float]) -> dict[str, Any]:
    return {"median": _rounded(statistics.median(rates)), "rounds": [_rounded(rate) for rate in rates]}


def _latencies(rounds: Sequence[LatencyRound], medians: Sequence[float]) -> dict[str, Any]:
    """Return the quantiles of all rounds together, and the median of each."""
    together = sorted(value for each in rounds for value in each.milliseconds)
    shares = {name: _rounded(quantile(together, share)) for name, share in SHARES.items()}
    return {**shares, "rounds": [_rounded(value) for value in medians]}


def _sum(rounds: Sequence[DrainRound] | Sequence[LatencyRound]) -> dict[str, int]:
    tallies: list[Tally] = [each.tally for each in rounds]
    return {
        name: sum(getattr(each, name) for each in tallies)
        for name in ("messages", "accepted", "lost", "duplicates")
    }


def _ratio(greater: Sequence[float], smaller: Sequence[float]) -> dict[str, Any]:
    """Return the ratios of neighbouring rounds; 0 where nothing arrived."""
    pairs = zip(greater, smaller, strict=True)
    ratios = [above / below if below else 0.0 for above, below in pairs]
    return {
        "median": _rounded(statistics.median(ratios)),
        "min": _rounded(min(ratios)),
        "max": _rounded(max(ratios)),
        "rounds": [_rounded(ratio) for ratio in ratios],
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
