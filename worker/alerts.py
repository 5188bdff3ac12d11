"""Alerts: each due incident told to every hook, at least once.

An incident is leased while its alert goes out, so one sender tells it. A hook that fails or hangs is
tried again later, while those that took the alert are left in peace; delivery of messages never
waits for it. The worker's log is told as well, and is the alert of last resort where no hook is
configured.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import subprocess
from dataclasses import replace
from datetime import timedelta
from typing import Any

from config import AlertSettings, Hook

from .deliveries import Failure, Request
from .processes import kill_group
from .store import incidents
from .store.aging import EXPIRING
from .store.causes import DESTINATION_HELD, AlertTimes
from .store.incidents import DueAlert, Told
from .store.transactions import Store
from .transport import Transport

FIRST_RETRY = timedelta(seconds=5)
LONGEST_RETRY = timedelta(minutes=10)
LEASE_MARGIN = timedelta(seconds=5)
MAX_ALERTS_A_ROUND = 20
MAX_ERROR_CHARACTERS = 300

log = logging.getLogger(__name__)


class HookFailed(Exception):
    """A hook did not take the alert."""


def send_due_alerts(store: Store, settings: AlertSettings) -> int:
    """Send every alert that is due, a bounded number of them; return how many went out."""
    alert_times = AlertTimes(settings.grouping, settings.reminder)
    lease = settings.timeout * max(1, len(settings.hooks)) + LEASE_MARGIN
    sent = 0
    for _ in range(MAX_ALERTS_A_ROUND):
        with store.reading() as look:
            if not incidents.has_due_alert(look):
                break
        with store.writing() as transaction:
            alert = incidents.lease_due_alert(transaction, lease)
        if alert is None:
            break
        sent += _send(store, settings, alert, alert_times)
    return sent


def _send(store: Store, settings: AlertSettings, alert: DueAlert, alert_times: AlertTimes) -> bool:
    document = document_of(alert)
    log.error("ALERT %s", document["text"])
    before = _told_before(alert, alert_times)
    left = [hook for hook in settings.hooks if _name_of(hook) not in before.hooks]
    answers = {_name_of(hook): _told(hook, document, settings.timeout) for hook in left}
    errors = [error for error in answers.values() if error is not None]
    with store.writing() as transaction:
        if not errors:
            return incidents.record_alert_sent(transaction, alert, before.occurrences, alert_times)
        again = min(FIRST_RETRY * 2 ** min(alert.tries, 20), LONGEST_RETRY)
        took_it = before.hooks | {name for name, error in answers.items() if error is None}
        told = replace(before, hooks=frozenset(took_it))
        incidents.record_alert_failed(transaction, alert, "; ".join(errors), again, told)
    log.warning("an alert hook failed, next try in %d s: %s", again.total_seconds(), "; ".join(errors))
    return False


def _told_before(alert: DueAlert, alert_times: AlertTimes) -> Told:
    """Return who took this alert already; news that is due for a reminder is for everyone again."""
    told = alert.told
    if told is None:
        return Told(frozenset(), alert.occurrences, alert.leased_at)
    reminder_due = alert.leased_at >= told.at + alert_times.reminder
    if alert.occurrences > told.occurrences and reminder_due:
        return Told(frozenset(), alert.occurrences, alert.leased_at)
    return told


def document_of(alert: DueAlert) -> dict[str, Any]:
    """Return the alert as the JSON a hook gets: identifiers and reasons, never a payload."""
    return {
        "incident": alert.incident_id,
        "cause": alert.cause,
        "destination": alert.destination,
        "operation": alert.operation,
        "reason": alert.reason,
        "text": _sentence(alert),
        "opened_at": alert.opened_at.isoformat(),
        "occurrences": alert.occurrences,
        "new_occurrences": alert.new_occurrences,
        "open_dead_letters": alert.open_letters,
        "in_doubt": alert.in_doubt,
        "sample_message": alert.sample_message_id,
        "sample_key": alert.sample_key,
        "sample_text": alert.text,
    }


def _sentence(alert: DueAlert) -> str:
    if alert.cause == EXPIRING:
        number = "1 message" if alert.occurrences == 1 else f"{alert.occurrences} messages"
        return f"{number} of {alert.operation} to {alert.destination} will expire: {alert.text}"
    if alert.cause == DESTINATION_HELD:
        return f"Destination {alert.destination} is held ({alert.reason}): {alert.text}"
    count = alert.open_letters or alert.occurrences
    letters = "1 dead letter" if count == 1 else f"{count} dead letters"
    doubt = f", {alert.in_doubt} in doubt" if alert.in_doubt else ""
    doubt += "" if alert.open_letters else ", settled by now"
    return (
        f"{letters} of {alert.operation} to {alert.destination}{doubt}: {alert.reason}. "
        f"Latest, message {alert.sample_message_id}: {alert.text}"
    )


def _name_of(hook: Hook) -> str:
    """Return what a hook is remembered by: a digest, since its address may be a secret."""
    what = hook.webhook.get_secret_value() if hook.webhook is not None else json.dumps(hook.command)
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def _told(hook: Hook, document: dict[str, Any], timeout: timedelta) -> str | None:
    """Tell one hook; return what went wrong, None when it took the alert."""
    body = json.dumps(document).encode()
    try:
        if hook.command is not None:
            _run(hook.command, body, timeout)
        elif hook.webhook is not None:
            asyncio.run(_post(hook.webhook.get_secret_value(), body, timeout))
    except HookFailed as error:
        return str(error)[:MAX_ERROR_CHARACTERS]
    return None


def _run(command: list[str], body: bytes, timeout: timedelta) -> None:
    name, nowhere = command[0], subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, start_new_session=True
        )
    except OSError as error:
        raise HookFailed(f"command {name} could not be started: {error.strerror}") from None
    try:
        process.communicate(body, timeout.total_seconds())
    except subprocess.TimeoutExpired:
        kill_group(process)
        raise HookFailed(f"command {name} took longer than {timeout.total_seconds():g} s") from None
    if process.returncode:
        raise HookFailed(f"command {name} ended with status {process.returncode}")


async def _post(url: str, body: bytes, timeout: timedelta) -> None:
    headers = {"Content-Type": "application/json", "User-Agent": "orderflow-outbox"}
    async with Transport() as transport:
        answer = await transport.send(Request("POST", url, headers, headers, body), timeout.total_seconds())
    if isinstance(answer, Failure):
        raise HookFailed(f"webhook: {answer.reason}")
    if not 200 <= answer.status < 300:
        raise HookFailed(f"webhook answered HTTP {answer.status}")
