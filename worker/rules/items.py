"""The report on each item of an import: by which rule, and what it means for the whole message."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from lxml import etree

from config import ItemRule, ItemVerdict
from worker.documents import SentItem, is_of_one_item, items_of
from worker.verdicts import (
    DUPLICATE,
    SPLIT,
    Delivered,
    ItemResult,
    Judgement,
    OfOne,
    Refused,
    RetryLater,
    Why,
    failures_in_words,
    most_common_reason,
    of_an_edit,
)

from .answered import Answered, local_name
from .pairing import paired
from .searching import Lift, all_hold, lift_of, xpath_holds
from .words import in_one_line

IMPORTED = "imported"
_ITEM = "{*}import"
_IN_WORDS = {Delivered: "done", Refused: "refused", RetryLater: "to be sent again"}


class AskedOfItems:
    """A rule that judges the report on an item."""

    def __init__(self, rule: ItemRule, namespaces: Mapping[str, str]) -> None:
        self._rule = rule
        self._lifts: list[Lift] = [lift_of(each, namespaces) for each in rule.text_from]
        self._conditions: list[Callable[[etree._Element], bool]] = []
        if rule.xpath is not None:
            self._conditions.append(xpath_holds(rule.xpath, namespaces))
        if rule.text is not None:
            words = re.compile(rule.text)
            self._conditions.append(lambda item: words.search(_words(item)) is not None)
        self.group = None if rule.group is None else frozenset(rule.group)
        self.in_doubt = rule.in_doubt
        self.always: OfOne | None = self._constant()

    def fits(self, item: etree._Element) -> bool:
        """Tell whether the conditions hold that are on the item itself."""
        return all_hold(self._conditions, item)

    def verdict(self, item: etree._Element) -> OfOne:
        """Return what it decides."""
        return self.always or self._decided(self._text(item))

    def _constant(self) -> OfOne | None:
        """Return the verdict where it is one for all items: of those that are delivered nothing is told."""
        delivers = self._rule.verdict is ItemVerdict.DELIVERED
        return self._decided("") if delivers and not self._lifts and not self._conditions else None

    def _decided(self, text: str) -> OfOne:
        why = Why(self._rule.reason, text, self._rule.name)
        match self._rule.verdict:
            case ItemVerdict.DELIVERED:
                return Delivered(why)
            case ItemVerdict.REFUSED:
                return Refused(why)
            case ItemVerdict.RETRY:
                return RetryLater(why, systemic=False)

    def _text(self, element: etree._Element) -> str:
        for lift in self._lifts:
            found = in_one_line(lift(element, _words(element)))
            if found:
                return found
        reference = element.get("externalReference", "?")
        return in_one_line(self._rule.says.format(reference=reference, words=_words(element)))


class ItemJudge:
    """Judges the reports on items of one operation at one destination.

    Args:
        rules: those that apply, the first asked first.
        divisible: whether its messages can be split: only an import document holds the items reported on.
    """

    def __init__(self, rules: Sequence[AskedOfItems], divisible: bool) -> None:
        self._rules = rules
        self._divisible = divisible
        self._asked: dict[tuple[str, bool], list[AskedOfItems]] = {}

    def judge(self, answered: Answered, rule: str, payload: bytes | None) -> Judgement | None:
        """Return what a report means for a message, and for each of its items; None without any.

        Args:
            rule: the name of the rule that asks for the items.
            payload: what was sent; None takes the items that are reported for all there were.
        """
        if answered.document is None:
            return None
        judged: list[tuple[etree._Element, OfOne]] = []
        for group in answered.document:
            rules = self._rules_for(local_name(group), answered.in_doubt)
            always = rules[0].always if rules else None
            for item in group.iterchildren(_ITEM):
                verdict = always or _first_that_fits(rules, item)
                if verdict is not None:
                    judged.append((item, of_an_edit(verdict) if answered.edited else verdict))
        if not judged:
            return None
        items = paired(judged, self._sent(payload, judged), rule)
        verdict = _of_all(items, rule)
        if verdict.why.reason == SPLIT and not self._divisible:
            verdict = _of_all([item for item in items if not isinstance(item.verdict, Delivered)][:1], rule)
        return Judgement(verdict, items)

    def _sent(
        self, payload: bytes | None, judged: Sequence[tuple[etree._Element, OfOne]]
    ) -> list[SentItem] | None:
        """Return the message's items, None where those that are reported are all there can be."""
        if payload is None or not self._divisible:
            return None
        if len(judged) == 1 and is_of_one_item(payload):
            reference = judged[0][0].get("externalReference")
            if reference is None or f'"{reference}"'.encode() in payload:
                return None
        return items_of(payload)

    def _rules_for(self, group: str, in_doubt: bool) -> list[AskedOfItems]:
        asked = self._asked.get((group, in_doubt))
        if asked is None:
            asked = self._asked[group, in_doubt] = [
                rule
                for rule in self._rules
                if (rule.group is None or group in rule.group) and rule.in_doubt in (None, in_doubt)
            ]
        return asked


def _first_that_fits(rules: Sequence[AskedOfItems], item: etree._Element) -> OfOne | None:
    return next((rule.verdict(item) for rule in rules if rule.fits(item)), None)


def _words(element: etree._Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def _of_all(items: Sequence[ItemResult], rule: str) -> OfOne:
    """Return what becomes of the message: whole where all items agree, split where they do not."""
    kinds: dict[type[OfOne], int] = {}
    already = 0
    for verdict, run in groupby([item.verdict for item in items]):
        count = len(list(run))
        kinds[type(verdict)] = kinds.get(type(verdict), 0) + count
        already += count if verdict.why.reason == DUPLICATE else 0
    if len(kinds) > 1:
        parts = [f"{kinds[kind]} {word}" for kind, word in _IN_WORDS.items() if kind in kinds]
        return Delivered(Why(SPLIT, ", ".join(parts), rule))
    if Delivered in kinds:
        done = f"{len(items) - already} imported" + (f", {already} already there" if already else "")
        return Delivered(Why(DUPLICATE if already == len(items) else IMPORTED, done, rule))
    if Refused in kinds:
        return Refused(
            Why(most_common_reason(items), in_one_line(failures_in_words(items, len(items))), rule)
        )
    return RetryLater(Why(most_common_reason(items), items[0].verdict.why.text, rule), systemic=False)
