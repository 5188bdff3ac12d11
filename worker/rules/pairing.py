"""Which item of a message a report speaks of: by number where given, else by what it is called, in order."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

from lxml import etree

from worker.documents import SentItem
from worker.verdicts import Delivered, ItemResult, Refused, RetryLater, Why

NOT_MENTIONED = "not_mentioned"
_Judged = tuple[etree._Element, Delivered | RetryLater | Refused]


def paired(judged: Sequence[_Judged], sent: Sequence[SentItem] | None, rule: str) -> tuple[ItemResult, ...]:
    """Return the result of each item that was sent, in the message's order.

    Args:
        judged: the elements of the report, each with its verdict.
        sent: the message's items; None for those that are reported.
        rule: the name of the rule that asked for the items; one without a report is sent again.
    """
    if sent is None:
        return tuple(
            [
                ItemResult(place, element.get("externalReference", ""), verdict)
                for place, (element, verdict) in enumerate(judged, 1)
            ]
        )
    verdicts = _by_place(judged, sent)
    again = RetryLater(Why(NOT_MENTIONED, "the report does not mention it", rule), systemic=False)
    return tuple(
        [
            ItemResult(place + 1, item.reference, verdicts.get(place, again), place in verdicts)
            for place, item in enumerate(sent)
        ]
    )


def _by_place(
    judged: Sequence[_Judged], sent: Sequence[SentItem]
) -> dict[int, Delivered | RetryLater | Refused]:
    found: dict[int, Delivered | RetryLater | Refused] = {}
    left: list[_Judged] = []
    for element, verdict in judged:
        place = _numbered(element, sent)
        if place is None or place in found:
            left.append((element, verdict))
        else:
            found[place] = verdict
    if left:
        _by_name(left, sent, found)
    return found


def _numbered(element: etree._Element, sent: Sequence[SentItem]) -> int | None:
    """Return the place that `item` names, unless it is called otherwise there."""
    number = element.get("item", "")
    if not (number.isascii() and number.isdigit()) or not 1 <= int(number[:9]) <= len(sent):
        return None
    place = int(number[:9]) - 1
    return place if element.get("externalReference", sent[place].reference) == sent[place].reference else None


def _by_name(
    left: Sequence[_Judged],
    sent: Sequence[SentItem],
    found: dict[int, Delivered | RetryLater | Refused],
) -> None:
    free = [place for place in range(len(sent)) if place not in found]
    by_reference: dict[str, deque[int]] = defaultdict(deque)
    for place in free:
        by_reference[sent[place].reference].append(place)
    nameless = deque(free)
    for element, verdict in left:
        reference = element.get("externalReference")
        candidates = nameless if reference is None else by_reference.get(reference, deque())
        for place in candidates:  # mostly the first of them
            if place not in found and _agrees(element, sent[place]):
                candidates.remove(place)
                found[place] = verdict
                break


def _agrees(element: etree._Element, item: SentItem) -> bool:
    """Tell whether what an element says of its item is not otherwise there."""
    return all(
        element.get(name, own) == own
        for name, own in zip(("type", "operation", "externalReference"), item.name, strict=True)
    )
