"""Checks: asking OrderFlow whether a message in doubt was carried out, before it is sent again.

A check is an attempt of its own: one that says absent is recorded, and the message is sent by the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple

from config import Presence, Queries
from orderflow_outbox import Operation
from orderflow_outbox.documents import read_document
from orderflow_outbox.errors import InvalidMessage
from orderflow_outbox.messages import checked_query
from orderflow_outbox.places import filled, without_value

from .deliveries import Claim, Failure, Reply
from .rules import Judge
from .rules.checking import CheckJudge
from .rules.words import in_one_line
from .verdicts import (
    CHECK_UNCLEAR,
    DUPLICATE,
    HAS_IT_ALREADY,
    Delivered,
    Hold,
    Refused,
    RetryLater,
    Verdict,
    Why,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """A query that is to tell whether a message was carried out."""

    query: Operation
    parameters: Mapping[str, str]


class Checked(NamedTuple):
    """What a check came to.

    Attributes:
        settled: whether the message is no longer in doubt.
    """

    verdict: Verdict
    settled: bool


class Checks:
    """The checks that operations name.

    Args:
        queries: the checks, and the queries they ask.
        judge: judges what their own rules do not know, such as an error of a proxy.
    """

    def __init__(self, queries: Queries, judge: Judge) -> None:
        self._checks = queries.checks
        self._namespaces = queries.namespaces
        self._queries = {name: query.as_operation(name) for name, query in queries.by_name.items()}
        self._judge = judge
        self._judges: dict[tuple[str, str], CheckJudge] = {}

    def question(self, claim: Claim, operation: Operation) -> Question | None:
        """Return what is to be asked before `claim` is sent.

        None where it is simply sent: it is not in doubt, has no check, or not the values that this asks by.
        """
        check = self._checks.get(claim.operation) if claim.in_doubt else None
        if check is None:
            return None
        query = self._queries[check.query]
        try:
            document = read_document(operation, claim.payload)
            texts = check.parameters.values()
            missing = [name for text in texts for name in without_value(text, claim.query, document)]
            if missing:
                _log_unchecked(claim, query, f"it has no {missing[0]}, or several")
                return None
            values = {name: filled(text, claim.query, document) for name, text in check.parameters.items()}
            return Question(query, checked_query(query, values))
        except InvalidMessage as error:  # what its operation was when it was enqueued is another today
            _log_unchecked(claim, query, f"its {error.field} cannot be used")
            return None

    def is_checkable(self, claim: Claim, operation: Operation) -> bool:
        """Tell whether a check can settle the message of `claim`, should that be in doubt."""
        return self.question(replace(claim, in_doubt=True), operation) is not None

    def verdict(self, question: Question, claim: Claim, reply: Reply | Failure) -> Checked:
        """Return what the answer to a question means for the message of `claim`."""
        told = self._judge_of(claim).judge(reply) if isinstance(reply, Reply) else None
        if told is None:
            return Checked(self._untold(question, claim, reply), settled=False)
        presence, why = told
        if presence is Presence.PRESENT and claim.edited:
            return Checked(Refused(Why(DUPLICATE, HAS_IT_ALREADY, why.rule)), settled=False)
        if presence is Presence.PRESENT:
            return Checked(Delivered(why), settled=True)
        at_once = RetryLater(why, systemic=False, after=timedelta(), spends_try=False)
        return Checked(at_once, settled=True)

    def _judge_of(self, claim: Claim) -> CheckJudge:
        of = claim.destination, claim.operation
        judge = self._judges.get(of)
        if judge is None:
            check = self._checks[claim.operation]
            judge = self._judges[of] = CheckJudge(check, self._namespaces, claim.destination)
        return judge

    def _untold(self, question: Question, claim: Claim, reply: Reply | Failure) -> Verdict:
        """Return what becomes of a message whose check told nothing: it is made again, or all are held."""
        query = question.query
        verdict = self._judge.judge(
            reply, claim.destination, query, in_doubt=False, now=claim.claimed_at
        ).verdict
        text = in_one_line(f"the check by {query.name} told nothing: {verdict.why.text}")
        match verdict:
            case Hold():
                return verdict
            case RetryLater(why):
                return replace(verdict, why=replace(why, text=text), spends_try=False)
            case _:
                why = Why(CHECK_UNCLEAR, text, verdict.why.rule)
                return RetryLater(why, systemic=False, spends_try=False)


def _log_unchecked(claim: Claim, query: Operation, why: str) -> None:
    log.warning("message %d is in doubt, and is sent without its check by %s: %s", claim.id, query.name, why)
