"""Which item of a message a report speaks of: by number where given, else by what it is called, in order."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from itertools import islice

from lxml import etree

from worker.documents import SentItem
from worker.verdicts import NOT_MENTIONED, Delivered, ItemResult, OfOne, Refused, RetryLater, Why

_Judged = tuple[etree._Element, OfOne]
MOST_LOOKED_AT = 20
"""Of items that have one reference, so many are looked at for the one that a report agrees with."""
_WORSE = [Delivered, RetryLater, Refused]


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


def _by_place(judged: Sequence[_Judged], sent: Sequence[SentItem]) -> dict[int, OfOne]:
    found: dict[int, OfOne] = {}
    named: list[_Judged] = []
    unnamed: list[OfOne] = []
    references = {item.reference for item in sent}
    for element, verdict in judged:
        place = _numbered(element, sent, references)
        if place is not None:
            _note(found, place, verdict)
        elif element.get("externalReference") is not None:
            named.append((element, verdict))
        elif element.get("item") is None:
            unnamed.append(verdict)
    if named:
        _by_name(named, sent, found)
    # Those that say neither number nor name can only be meant in order.
    for place, verdict in zip(
        [place for place in range(len(sent)) if place not in found], unnamed, strict=False
    ):
        found[place] = verdict
    return found


def _note(found: dict[int, OfOne], place: int, verdict: OfOne) -> None:
    """Note a verdict; of several on one item the worst counts."""
    known = found.get(place)
    if known is None or _WORSE.index(type(verdict)) > _WORSE.index(type(known)):
        found[place] = verdict


def _numbered(element: etree._Element, sent: Sequence[SentItem], references: set[str]) -> int | None:
    """Return the place that `item` names, unless the report is called as another item of the message is."""
    number = element.get("item", "")
    if not (number.isascii() and number.isdigit()) or not 1 <= int(number[:9]) <= len(sent):
        return None
    place, reference = int(number[:9]) - 1, _reference(element)
    of_another = reference is not None and reference != sent[place].reference and reference in references
    return None if of_another else place


def _reference(element: etree._Element) -> str | None:
    reference = element.get("externalReference")
    return None if reference is None else reference.strip()


def _by_name(named: Sequence[_Judged], sent: Sequence[SentItem], found: dict[int, OfOne]) -> None:
    places: dict[str, deque[int]] = defaultdict(deque)
    last: dict[str, int] = {}
    for place, item in enumerate(sent):
        last[item.reference] = place
        if place not in found:
            places[item.reference].append(place)
    others = []
    for element, verdict in named:
        reference = _reference(element) or ""
        free = places.get(reference, deque())
        for place in islice(free, MOST_LOOKED_AT):  # mostly it is the first of them
            if _agrees(element, sent[place]):
                free.remove(place)
                found[place] = verdict
                break
        else:
            others.append((reference, verdict))
    for reference, verdict in others:  # called by the right reference, and otherwise not as it was sent
        free = places.get(reference, deque())
        if free:
            found[free.popleft()] = verdict
        elif reference in last:
            _note(found, last[reference], verdict)


def _agrees(element: etree._Element, item: SentItem) -> bool:
    """Tell whether the type and operation that an element gives are those of an item of its reference."""
    kind, operation, _ = item.name
    return element.get("type", kind) == kind and element.get("operation", operation) == operation
