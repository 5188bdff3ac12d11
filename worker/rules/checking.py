"""What a check's answer means: whether the message was carried out."""

from __future__ import annotations

from collections.abc import Mapping

from config import Check, CheckRule, Presence
from worker.deliveries import Reply
from worker.verdicts import Why

from .answered import Answered
from .asking import AskedOfAny

GOOD = range(200, 300)
"""The statuses that a rule fits which names none: an error says nothing of the message."""


class CheckJudge:
    """Judges the answers to one check at one destination.

    Args:
        check: its rules, the first asked first.
        namespaces: the prefixes that their XPaths use.
        destination: who is asked, by its name.
    """

    def __init__(self, check: Check, namespaces: Mapping[str, str], destination: str) -> None:
        self._rules: list[tuple[CheckRule, AskedOfAny]] = [
            (rule, AskedOfAny(rule, namespaces))
            for rule in check.rules
            if rule.destinations is None or destination in rule.destinations
        ]

    def judge(self, reply: Reply) -> tuple[Presence, Why] | None:
        """Return what `reply` says, None where it broke off, or no rule fits it."""
        if not reply.complete:
            return None
        answered = Answered(reply, in_doubt=True)
        for rule, asked in self._rules:
            if reply.status in (asked.status or GOOD) and asked.fits(answered):
                return rule.verdict, asked.why(answered)
        return None
