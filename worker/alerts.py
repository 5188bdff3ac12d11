"""Alerts: each due incident told to every hook that is to hear of it, at least once.

An incident is leased while its alert goes out, so one sender tells it. A hook that fails or hangs is
tried again later, while those that took the alert are left in peace; delivery of messages never
waits for it. The worker's log is told as well, and is the alert of last resort where no hook is
configured.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from config import AlertSettings, Hook

from .failpoints import Failpoint, come_by
from .hooks.running import Job, longest, name_of, tell_all
from .severities import severity_of
from .store import incidents
from .store.causes import AlertTimes
from .store.incidents import DueAlert, Told
from .store.transactions import Store
from .telling import Kind, body_of, document_of, title_of

FIRST_RETRY = timedelta(seconds=5)
LONGEST_RETRY = timedelta(minutes=10)
LEASE_MARGIN = timedelta(seconds=30)
"""What a lease covers beside the hooks' own time: their start, and a database that is slow to record."""
RECORD_SECONDS = 15.0
"""How long a sender tries to write down what it told; then its lease runs out, and it is told again."""
RECORD_AGAIN_SECONDS = 0.5
AT_ONCE = 4
"""So many alerts go out at the same time: a hook that hangs keeps few from leaving."""
MAX_ALERTS_A_ROUND = 20
TOO_LATE = "the sender was held up until another could tell it"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sending:
    """An alert on its way.

    Attributes:
        before: who took it already, and what it counts.
        hooks: those that are left to be told.
        tell_before: by the process's clock; later another may be telling it.
    """

    alert: DueAlert
    before: Told
    hooks: Sequence[Hook]
    tell_before: float


Answers = Sequence[str | None]


class AlertSender:
    """Sends alerts in three steps, of which the second, the long one, needs no database.

    Args:
        store: where the incidents are.
        settings: whom to tell, and when.
        monotonic: the process's clock.
    """

    def __init__(
        self, store: Store, settings: AlertSettings, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._settings = settings
        self._monotonic = monotonic
        self._times = AlertTimes(settings.grouping, settings.reminder)
        self._lease = longest(AT_ONCE * len(settings.hooks), settings.timeout) + LEASE_MARGIN

    def lease(self, most: int = AT_ONCE) -> list[Sending]:
        """Lease what is due, a few at most: nobody else sends it meanwhile."""
        leased: list[Sending] = []
        while len(leased) < most:
            with self._store.reading() as look:
                if not incidents.has_due_alert(look):
                    break
            tell_before = self._monotonic() + LEASE_MARGIN.total_seconds() - RECORD_SECONDS
            with self._store.writing() as transaction:
                alert = incidents.lease_due_alert(transaction, self._lease)
            if alert is None:
                break
            with self._store.reading() as look:
                alert = incidents.with_evidence(look, alert)
            leased.append(self._sending(alert, tell_before))
        return leased

    def tell(self, sendings: Sequence[Sending]) -> list[Answers]:
        """Tell the hooks; return, for each sending, what each of its hooks answered."""
        in_time = [each for each in sendings if self._monotonic() < each.tell_before]
        jobs: list[Job] = []
        for each in in_time:
            document = document_of(each.alert)
            is_over = document["kind"] == Kind.RESOLVED
            log.log(logging.WARNING if is_over else logging.ERROR, "ALERT %s", document["text"])
            jobs += [Job(hook, document, title_of(document), body_of(document)) for hook in each.hooks]
        answers = iter(tell_all(jobs, self._settings.timeout))
        if jobs:
            come_by(Failpoint.IN_ALERT)
        return [[next(answers) if each in in_time else TOO_LATE for _ in each.hooks] for each in sendings]

    def record(self, sendings: Sequence[Sending], answers: Sequence[Answers]) -> int:
        """Write down what became of alerts, trying for a while; return how many every hook took.

        One that cannot be written keeps no other from it, which would be told again.
        """
        ends = self._monotonic() + RECORD_SECONDS
        left, taken = list(zip(sendings, answers, strict=True)), 0
        while True:
            failed: list[tuple[Sending, Answers]] = []
            trouble: Exception | None = None
            for each in left:
                try:
                    taken += self._record(*each)
                except Exception as error:
                    failed.append(each)
                    trouble = error
            if trouble is None:
                return taken
            if self._monotonic() >= ends:
                raise trouble
            left = failed
            time.sleep(RECORD_AGAIN_SECONDS)

    def _sending(self, alert: DueAlert, tell_before: float) -> Sending:
        before = Told(frozenset(), alert.occurrences, alert.leased_at)
        told = alert.told
        if told is not None and told.hooks:
            if alert.leased_at < self._times.next_alert(told.at, alert.sent + 1):
                before = told
            else:  # a reminder is due to everyone, whoever has not taken the one before
                alert = replace(alert, sent=alert.sent + 1)
        severity = severity_of(alert.cause)
        hooks = [
            hook
            for hook in self._settings.hooks
            if hook.is_told(severity, alert.destination) and name_of(hook) not in before.hooks
        ]
        return Sending(alert, before, hooks, tell_before)

    def _record(self, sending: Sending, answers: Answers) -> bool:
        alert, before = sending.alert, sending.before
        errors = [error for error in answers if error is not None]
        with self._store.writing() as transaction:
            if not errors:
                return incidents.record_alert_sent(transaction, alert, before.occurrences, self._times)
            again = min(FIRST_RETRY * 2 ** min(alert.tries, 20), LONGEST_RETRY)
            took_it = {name_of(hook) for hook, error in zip(sending.hooks, answers, strict=True) if not error}
            told = replace(before, hooks=before.hooks | took_it)
            incidents.record_alert_failed(transaction, alert, "; ".join(errors), again, told)
        then = "given up" if alert.is_last_try else f"next try in {again.total_seconds():.0f} s"
        log.warning("an alert hook failed, %s: %s", then, "; ".join(errors))
        return False


def send_due_alerts(store: Store, settings: AlertSettings) -> int:
    """Send every alert that is due, a bounded number of them; return how many went out."""
    sender = AlertSender(store, settings)
    sent = begun = 0
    while begun < MAX_ALERTS_A_ROUND:
        sendings = sender.lease(min(AT_ONCE, MAX_ALERTS_A_ROUND - begun))
        if not sendings:
            break
        begun += len(sendings)
        sent += sender.record(sendings, sender.tell(sendings))
    return sent


def try_hooks(settings: AlertSettings, document: dict[str, Any]) -> list[str | None]:
    """Tell every hook a document, whatever it is to hear of; return what went wrong with each."""
    title, body = title_of(document), body_of(document)
    return tell_all([Job(hook, document, title, body) for hook in settings.hooks], settings.timeout)
