"""The report on each item of an import: what it means for the message."""

from __future__ import annotations

from collections.abc import Sequence

from lxml import etree

from worker.verdicts import Delivered, Refused, Verdict, Why

from .answered import local_name
from .words import in_one_line

MAX_NAMED_ITEMS = 5
SUCCESSES, DUPLICATES, FAILURES = "importSuccesses", "importDuplicates", "importFailures"


def judge_items(report: etree._Element, rule: str) -> Verdict:
    """Return what a report means: delivered when every item is a success or a duplicate.

    Args:
        report: the element `importResult`.
        rule: the name of the rule that asks.
    """
    items = {local_name(group): [item for item in group if local_name(item) == "import"] for group in report}
    done, duplicates = len(items.get(SUCCESSES, ())), len(items.get(DUPLICATES, ()))
    failures = items.get(FAILURES, ())
    if failures:
        return Refused(Why("items_failed", _tell(failures, done + duplicates), rule))
    text = f"{done} imported" + (f", {duplicates} already there" if duplicates else "")
    return Delivered(Why("imported" if done else "duplicate", text, rule))


def _tell(failures: Sequence[etree._Element], done: int) -> str:
    named = []
    for item in failures[:MAX_NAMED_ITEMS]:
        message = item.findtext("{*}failureMessage") or item.findtext("{*}failureDetail") or "no reason given"
        named.append(f"{item.get('externalReference', '?')}: {message}")
    more = f" and {len(failures) - MAX_NAMED_ITEMS} more" if len(failures) > MAX_NAMED_ITEMS else ""
    return in_one_line(f"{len(failures)} of {len(failures) + done} items failed: {'; '.join(named)}{more}")
