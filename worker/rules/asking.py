"""One rule, made ready to be asked of many replies."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from fnmatch import translate

from config import AnswerRule, ReplyRule, VerdictName
from worker.deliveries import Failure
from worker.verdicts import Delivered, Hold, Refused, RetryLater, Verdict, Why

from .answered import Answered
from .searching import all_hold, lift_of, xpath_holds
from .waiting import asked_to_wait
from .words import in_one_line

Condition = Callable[[Answered], bool]


class AskedOfAny:
    """A rule on answers, whatever it decides.

    Attributes:
        name: what it is called.
        status: the statuses it fits; None for any.
    """

    def __init__(self, rule: AnswerRule, namespaces: Mapping[str, str]) -> None:
        self._asked = rule
        self.name = rule.name
        self.status = rule.status
        self._conditions = _conditions(rule, namespaces)
        self._lifts = [lift_of(each, namespaces) for each in rule.text_from]

    def fits(self, answered: Answered) -> bool:
        """Tell whether all conditions hold but that on the status, which its asker knows."""
        return all_hold(self._conditions, answered)

    def why(self, answered: Answered) -> Why:
        """Return the reason of what it decides."""
        return Why(_reason(self._asked, answered.reply.status, ""), self._text(answered), self.name)

    def _text(self, answered: Answered) -> str:
        for lift in self._lifts:
            found = in_one_line(lift(answered.document, answered.words))
            if found:
                return found
        says = self._asked.says
        return in_one_line(
            says.format(
                status=answered.reply.status,
                failure="",
                title=answered.title if "{title}" in says else "",
                words=answered.words if "{words}" in says else "",
                content_type=answered.reply.header("content-type") or "no content type",
                bytes=len(answered.reply.body),
            )
        )


class AskedOfAnswers(AskedOfAny):
    """A rule that judges answers.

    Attributes:
        is_per_item: whether it leaves the verdict to the report on each item.
    """

    def __init__(self, rule: ReplyRule, namespaces: Mapping[str, str]) -> None:
        super().__init__(rule, namespaces)
        self._rule = rule
        self.is_per_item = rule.verdict is VerdictName.PER_ITEM
        # Those first that cost least.
        self._conditions = [*_conditions_on_circumstances(rule), *self._conditions]

    def verdict(self, answered: Answered, now: datetime) -> Verdict:
        """Return what it decides.

        Args:
            now: for a Retry-After given as a date.
        """
        return _decided(self._rule, self.why(answered), asked_to_wait(answered.reply, now))


class AskedOfFailures:
    """A rule that judges why there is no answer."""

    def __init__(self, rule: ReplyRule) -> None:
        self._rule = rule

    def fits(self, failure: Failure, in_doubt: bool) -> bool:
        """Tell whether all conditions hold."""
        named = self._rule.failure or ()
        known = "any" in named or failure.reason in named
        return known and self._rule.in_doubt in (None, in_doubt)

    def verdict(self, failure: Failure) -> Verdict:
        """Return what it decides."""
        rule = self._rule
        text = rule.says.format(
            status="", failure=failure.reason, title="", words=failure.text, content_type="", bytes=0
        )
        return _decided(rule, Why(_reason(rule, None, failure.reason), in_one_line(text), rule.name), None)


def _reason(rule: AnswerRule, status: int | None, failure: str) -> str:
    return rule.reason.format(status="none" if status is None else status, failure=failure or "none")


def _decided(rule: ReplyRule, why: Why, not_before: timedelta | None) -> Verdict:
    match rule.verdict:
        case VerdictName.DELIVERED:
            return Delivered(why)
        case VerdictName.REFUSED:
            return Refused(why)
        case VerdictName.HOLD:
            return Hold(why)
        case _:
            return RetryLater(why, rule.systemic, not_before, rule.after)


def _conditions_on_circumstances(rule: ReplyRule) -> list[Condition]:
    """Return the conditions of a rule on how the answer came, and on what was known before."""
    found: list[Condition] = []
    if rule.complete is not None:
        found.append(lambda answered: answered.reply.complete is rule.complete)
    if rule.in_doubt is not None:
        found.append(lambda answered: answered.in_doubt is rule.in_doubt)
    return found


def _conditions(rule: AnswerRule, namespaces: Mapping[str, str]) -> list[Condition]:
    """Return the conditions of a rule on an answer but that on the status, those first that cost least."""
    found: list[Condition] = []
    if rule.min_bytes is not None or rule.max_bytes is not None:
        least, most = rule.min_bytes or 0, rule.max_bytes
        found.append(lambda answered: _within(len(answered.reply.body), least, most))
    if rule.content_type is not None:
        types = [re.compile(translate(each.lower())) for each in rule.content_type]
        found.append(lambda answered: any(each.match(answered.media_type) for each in types))
    for name, expression in (rule.header or {}).items():
        found.append(_header(name.lower(), re.compile(expression)))
    if rule.xml is not None:
        found.append(lambda answered: (answered.document is not None) is rule.xml)
    if rule.root is not None:
        names = frozenset(rule.root)
        found.append(lambda answered: answered.root in names)
    if rule.xpath is not None:
        holds = xpath_holds(rule.xpath, namespaces)
        found.append(lambda answered: holds(answered.document))
    if rule.text is not None:
        words = re.compile(rule.text)
        found.append(lambda answered: words.search(answered.words) is not None)
    return found


def _within(size: int, least: int, most: int | None) -> bool:
    return least <= size and (most is None or size <= most)


def _header(name: str, expression: re.Pattern[str]) -> Condition:
    return lambda answered: expression.search(answered.reply.header(name)) is not None
