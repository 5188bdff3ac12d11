"""What the demo showed: the counts, the alert, and the comparison with the receiver's own books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.json import JSON
from rich.table import Table
from rich.text import Text

from .shop import Sale


@dataclass(frozen=True, slots=True)
class Summary:
    """The demo in numbers.

    Attributes:
        enqueued: messages of committed transactions.
        delivered: of these, delivered.
        retried: of these, with more than one attempt.
        dead: of these, dead; one of them was then replayed.
        alerts: alerts received by the webhook.
        replayed: replays that were delivered.
        lost: messages that are neither dead nor delivered and in the receiver's books, and rolled
            back ones that are in there.
        duplicates_at_receiver: entities the receiver took in more than once.
        requests: requests the receiver saw.
    """

    enqueued: int
    delivered: int
    retried: int
    dead: int
    dead_reasons: Mapping[str, int]
    alerts: int
    replayed: int
    lost: int
    duplicates_at_receiver: int
    requests: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The database against the receiver's books."""

    lost: int
    duplicates_at_receiver: int


def compare(
    delivered: Sequence[Sale], unsettled: int, never_committed: Sale, accepted: Sequence[Mapping[str, Any]]
) -> Comparison:
    """Compare what the database calls delivered with what the receiver took in."""
    books = Counter((each["type"], each["operation"], each["externalReference"]) for each in accepted)
    missing = sum(1 for sale in delivered if sale.entity not in books)
    phantom = int(never_committed.entity in books)
    return Comparison(
        lost=missing + phantom + unsettled,
        duplicates_at_receiver=sum(count - 1 for count in books.values()),
    )


def print_summary(summary: Summary, alert: Mapping[str, Any] | None, console: Console) -> None:
    """Show the summary to a person."""
    table = Table(box=None, show_header=False, pad_edge=False)
    rows = [
        ("enqueued", summary.enqueued, "one more was rolled back with its order, and sent nothing"),
        ("delivered", summary.delivered, f"{summary.retried} of all needed more than one attempt"),
        ("dead", summary.dead, ", ".join(f"{n} × {r}" for r, n in summary.dead_reasons.items())),
        ("alerts", summary.alerts, "received by a webhook"),
        ("replayed", summary.replayed, "delivered, once its product was known"),
        ("requests", summary.requests, "seen by the receiver"),
        ("lost", summary.lost, "by the receiver's own books"),
        ("duplicates", summary.duplicates_at_receiver, "taken in twice by the receiver"),
    ]
    for name, count, remark in rows:
        bad = name in {"lost", "duplicates"} and count
        table.add_row(name, Text(str(count), style="bold red" if bad else "bold"), Text(remark, style="dim"))
    console.print(table)
    if alert is not None:
        console.print("the first alert, as it was sent:")
        console.print(JSON.from_data(dict(alert)))
    console.print(f"{summary.seconds:.1f} s")
