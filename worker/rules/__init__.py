"""Judging replies by rules: OrderFlow answers per item, and answers errors with 200.

The rules are configuration (`config/rules.toml`); they are asked in order, and the first that fits decides.
Pure: a verdict is a function of the reply, the rules, the message's doubt and `now`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from config import RulesFile
from orderflow_outbox import Operation
from worker.deliveries import Failure, Reply
from worker.verdicts import Judgement, Verdict, of_an_edit

from .answered import Answered
from .asking import AskedOfAnswers, AskedOfFailures
from .items import AskedOfItems, ItemJudge

UNKNOWN_REPLY = "unknown_reply"
"""The reason of a reply that nobody understands: one of success, such as half a document, leaves a doubt, but
a page does not, which is a proxy's in place of OrderFlow."""
_PAGE = re.compile(rb"\s*(<\?xml[^>]*>\s*)?<(!doctype\s+)?html\b", re.IGNORECASE)
AMBIGUOUS = frozenset({101, 502, 504, 520, 522, 524, 598, 599})
"""A proxy gave up waiting, or the answer is to follow in another protocol: it may have been carried out."""


class Judge:
    """Judges the replies of every destination.

    Args:
        files: the rules, those asked first first; the last of all fits whatever is left.
    """

    def __init__(self, files: Sequence[RulesFile]) -> None:
        self._files = files
        self._by_place: dict[tuple[str, str], _Table] = {}

    def judge(
        self,
        reply: Reply | Failure,
        destination: str,
        operation: Operation,
        in_doubt: bool,
        now: datetime,
        payload: bytes | None = None,
        edited: bool = False,
    ) -> Judgement:
        """Return what `reply` means for a message of `operation`, and for each of its items.

        Args:
            reply: the answer, or the failure to get one.
            destination: who was asked, by its name.
            operation: what was asked.
            in_doubt: whether an earlier attempt may have been carried out.
            now: for a Retry-After given as a date.
            payload: what was sent; without it the items that are reported count as all there were.
            edited: whether the message's document was edited: then "duplicate" is not delivered.
        """
        table = self._by_place.get((destination, operation.name))
        if table is None:
            table = self._by_place[destination, operation.name] = _Table(self._files, destination, operation)
        if isinstance(reply, Failure):
            return Judgement(table.of_failure(reply, in_doubt))
        return table.of_answer(Answered(reply, in_doubt, edited), now, payload)


class _Table:
    """The rules that apply to one operation at one destination."""

    def __init__(self, files: Sequence[RulesFile], destination: str, operation: Operation) -> None:
        rules = [
            (rule, file.namespaces)
            for file in files
            for rule in file.rules
            if rule.applies_to(destination, operation.name)
            and (rule.answer is None or operation.answer in rule.answer)
        ]
        self._of_failures = [AskedOfFailures(rule) for rule, _ in rules if rule.failure is not None]
        self._of_answers = [
            AskedOfAnswers(rule, namespaces) for rule, namespaces in rules if rule.failure is None
        ]
        self._by_status: dict[int, list[AskedOfAnswers]] = {}
        self._items = ItemJudge(
            [
                AskedOfItems(rule, file.namespaces)
                for file in files
                for rule in file.items
                if rule.applies_to(destination, operation.name)
            ],
            divisible=operation.holds_imports,
        )

    def of_answer(self, answered: Answered, now: datetime, payload: bytes | None) -> Judgement:
        for rule in self._asked(answered.reply.status):
            if not rule.fits(answered):
                continue
            if not rule.is_per_item:
                verdict = rule.verdict(answered, now)
                return Judgement(of_an_edit(verdict) if answered.edited else verdict)
            judgement = self._items.judge(answered, rule.name, payload)
            if judgement is not None:
                return judgement
        raise AssertionError("the last rule fits every answer")

    def of_failure(self, failure: Failure, in_doubt: bool) -> Verdict:
        for rule in self._of_failures:
            if rule.fits(failure, in_doubt):
                return rule.verdict(failure)
        raise AssertionError("the last rule of failures fits each of them")

    def _asked(self, status: int) -> list[AskedOfAnswers]:
        rules = self._by_status.get(status)
        if rules is None:
            rules = [rule for rule in self._of_answers if rule.status is None or status in rule.status]
            self._by_status[status] = rules
        return rules


def leaves_in_doubt(reply: Reply | Failure, verdict: Verdict) -> bool:
    """Tell whether the request may have been carried out although nobody said so.

    Args:
        verdict: what the rules made of the reply.
    """
    if isinstance(reply, Failure):
        return reply.bytes_may_have_left
    not_understood = (
        reply.status < 300 and verdict.why.reason == UNKNOWN_REPLY and not _PAGE.match(reply.body)
    )
    return reply.status in AMBIGUOUS or not reply.complete or not_understood
