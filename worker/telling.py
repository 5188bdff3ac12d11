"""What an alert says: a document for programs, and the same in words for people. Never a payload."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import Any

from .severities import severity_of
from .store import causes
from .store.incidents import DueAlert

MAX_TEXT_CHARACTERS = 1000
TRIAL = "test"
"""The cause of an alert that a person sends to try the hooks."""


class Kind(StrEnum):
    """What an alert tells of its incident."""

    OPENED = "opened"
    REMINDER = "reminder"
    RESOLVED = "resolved"


_PREFIXES = {Kind.OPENED: "", Kind.REMINDER: "Reminder: ", Kind.RESOLVED: "Resolved: "}

# What there is, and what is said once it is over.
_SENTENCES = {
    causes.DESTINATION_HELD: (
        "Destination {destination} is held ({reason}): {text}",
        "destination {destination} is held no more ({reason})",
    ),
    causes.BREAKER_OPEN: (
        "The breaker of destination {destination} is open ({reason}): {text}",
        "the breaker of destination {destination} is closed ({reason})",
    ),
    causes.EXPIRING: (
        "{messages} of {operation} to {destination} will expire: {text}",
        "no message of {operation} to {destination} is near its end any more",
    ),
    causes.OLDEST_DUE: (
        "Messages to {destination} wait for too long: {text}",
        "no message to {destination} waits for too long any more",
    ),
    causes.NOTHING_DELIVERED: (
        "Nothing is delivered to {destination}: {text}",
        "messages are delivered to {destination} again, or none waits",
    ),
    TRIAL: ("{text}", ""),
    causes.ENGINES_SILENT: ("No engine is alive: {text}", "an engine is alive again"),
    causes.SWEEPS_SILENT: ("Nobody sweeps: {text}", "it is swept again"),
    causes.DISK_NEARLY_FULL: (
        "A disk of {operation} is nearly full ({reason}): {text}",
        "the disk of {operation} has room again ({reason})",
    ),
}


def kind_of(alert: DueAlert) -> Kind:
    """Return what an alert tells of its incident."""
    if alert.resolved_at is not None:
        return Kind.RESOLVED
    return Kind.REMINDER if alert.sent else Kind.OPENED


def document_of(alert: DueAlert) -> dict[str, Any]:
    """Return the alert as the JSON a program gets."""
    kind = kind_of(alert)
    return {
        "kind": kind,
        "severity": severity_of(alert.cause),
        "incident": alert.incident_id,
        "cause": alert.cause,
        "destination": alert.destination,
        "operation": alert.operation,
        "reason": alert.reason,
        "text": f"{_PREFIXES[kind]}{_sentence(alert)}"[:MAX_TEXT_CHARACTERS],
        "opened_at": alert.opened_at.isoformat(),
        "resolved_at": None if alert.resolved_at is None else alert.resolved_at.isoformat(),
        "oldest_age_seconds": _age(alert.oldest_at, alert.resolved_at or alert.leased_at),
        "occurrences": alert.occurrences,
        "new_occurrences": alert.new_occurrences,
        "open_dead_letters": alert.letters.open,
        "in_doubt": alert.letters.in_doubt,
        "keys": list(alert.letters.keys or ([alert.sample_key] if alert.sample_key else [])),
        "sample_message": alert.sample_message_id,
        "sample_key": alert.sample_key,
        "sample_text": alert.text[:MAX_TEXT_CHARACTERS],
        "sample_reply": None if alert.sample_reply is None else asdict(alert.sample_reply),
    }


def trial_document(now: datetime) -> dict[str, Any]:
    """Return an alert about nothing, to try hooks with."""
    return document_of(
        DueAlert(
            incident_id=0,
            token=0,
            tries=0,
            sent=0,
            cause=TRIAL,
            destination="",
            operation="",
            reason=TRIAL,
            text="This is a test, nothing has happened",
            opened_at=now,
            oldest_at=now,
            resolved_at=None,
            occurrences=1,
            new_occurrences=1,
            sample_message_id=None,
            was_told=False,
            told=None,
            leased_at=now,
        )
    )


def title_of(document: dict[str, Any]) -> str:
    """Return the line a person is called by: the same for all alerts of an incident but for their kind."""
    about = " ".join(filter(None, (document["destination"], document["operation"], document["reason"])))
    return f"[{document['severity']}] {document['cause']} {document['kind']}: {about}"


def body_of(document: dict[str, Any]) -> str:
    """Return an alert as a person reads it below the title."""
    lines = [document["text"], ""]
    if document["keys"]:
        lines.append(f"Keys, among others: {', '.join(document['keys'])}")
    if document["sample_reply"] is not None:
        reply = document["sample_reply"]
        lines.append(
            f"Answered to message {document['sample_message']}: HTTP {reply['status']} {reply['text']}"
        )
    lines.append(
        f"Incident {document['incident']}, opened {document['opened_at'][:19].replace('T', ' ')} UTC"
    )
    if document["kind"] != Kind.RESOLVED:
        lines.append(f'No more reminders: python -m worker incidents ack {document["incident"]} --why "…"')
    return "\n".join(lines)


def _sentence(alert: DueAlert) -> str:
    if alert.cause not in _SENTENCES:
        return _of_letters(alert)
    number = "1 message" if alert.occurrences == 1 else f"{alert.occurrences} messages"
    return _SENTENCES[alert.cause][alert.resolved_at is not None].format(
        destination=alert.destination,
        operation=alert.operation,
        reason=alert.reason,
        text=alert.text,
        messages=number,
    )


def _of_letters(alert: DueAlert) -> str:
    count = alert.letters.open or alert.occurrences
    letters = "1 dead letter" if count == 1 else f"{count} dead letters"
    doubt = f", {alert.letters.in_doubt} in doubt" if alert.letters.in_doubt else ""
    doubt += "" if alert.letters.open else ", settled by now"
    return (
        f"{letters} of {alert.operation} to {alert.destination}{doubt}: {alert.reason}. "
        f"Latest, message {alert.sample_message_id}: {alert.text}"
    )


def _age(since: datetime, now: datetime) -> int:
    return max(0, round((now - since).total_seconds()))
