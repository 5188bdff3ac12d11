"""Messages as rows of Flower: the ids of the rows, and the Celery events that tell what becomes of them.

A replay is a message of its own, with a row of its own, which names its origin as its parent. The
origin's row goes on with it: it tells that the message is replayed, and how that ended.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from worker.deliveries import Claim
from worker.ports import Step

MAX_TEXT_CHARACTERS = 300

_ROW = re.compile(r"message-([1-9][0-9]{0,18})", re.ASCII)
_LARGEST_ID = 2**63 - 1

Event = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Told:
    """One step on its way to the watchers."""

    step: Step
    claim: Claim
    text: str
    seconds: float
    at: float


def row_of(message_id: int) -> str:
    """Return the id of a message's row."""
    return f"message-{message_id}"


def message_of(row: object) -> int | None:
    """Return the message that a row is of; None for one of a task of Celery's."""
    found = _ROW.fullmatch(row) if isinstance(row, str) else None
    return int(found[1]) if found is not None and int(found[1]) <= _LARGEST_ID else None


def events_of(told: Told) -> list[Event]:
    """Return the Celery events that tell a step: name and fields, never payload, query or headers."""
    claim, text = told.claim, told.text[:MAX_TEXT_CHARACTERS]
    shown = {"attempt": claim.attempt}
    if claim.replay_of is None:
        return _of_the_row(told, text, named(claim, claim.id, shown), None)
    ours = named(claim, claim.id, {**shown, "replay_of": claim.replay_of})
    events = _of_the_row(told, text, ours, row_of(claim.replay_of))
    return [*events, *_of_the_origin(told, text, claim.replay_of)]


def cancelled(message_id: int, why: str) -> Event:
    """Return the event that tells of a message that was cancelled."""
    return "task-revoked", {"uuid": row_of(message_id), **_revoked(f"cancelled: {why}")}


def named(claim: Claim, message_id: int, more: dict[str, Any]) -> dict[str, Any]:
    """Return what tells which message a row is of: the one claimed, or the one that it replays."""
    shown = {"id": message_id, "key": claim.key, "destination": claim.destination, **more}
    return {
        "uuid": row_of(message_id),
        "name": claim.operation,
        "args": f"({claim.key!r},)",
        "kwargs": repr(shown),
    }


def _of_the_row(told: Told, text: str, ours: dict[str, Any], parent: str | None) -> list[Event]:
    claim, row = told.claim, {"uuid": ours["uuid"]}
    match told.step:
        case Step.STARTED:
            received = {**ours, "parent_id": parent, "retries": claim.tries, "eta": None}
            return [("task-received", received), ("task-started", row)]
        case Step.DELIVERED:
            return [("task-succeeded", {**row, **_succeeded(text), "runtime": told.seconds})]
        case Step.RETRIED:
            retried = {**_failed(text), "retries": claim.tries + 1, "eta": None}
            return [("task-retried", {**row, **retried, "runtime": told.seconds})]
        case Step.DEAD:
            failed = {**_failed(text), "retries": claim.tries}
            return [("task-failed", {**row, **failed, "runtime": told.seconds})]
        case Step.SUPERSEDED:
            return [("task-revoked", {**row, **_revoked(f"superseded; last: {text}")})]


def _of_the_origin(told: Told, text: str, origin: int) -> list[Event]:
    """Return what the row of a replayed message tells: one event as the replay begins, one as it ends."""
    claim, replayed = told.claim, f"replayed as message {told.claim.id}"
    # With its names, since watchers may have forgotten the row, or never have known it.
    row = named(claim, origin, {"replayed_as": claim.id})
    match told.step:
        case Step.STARTED if claim.tries == 0:
            # What has failed stays so for Celery, whatever comes, but for a retry or a success.
            return [("task-retried", {**row, **_failed(replayed)})]
        case Step.DELIVERED:
            return [("task-succeeded", {**row, **_succeeded(f"{replayed}: {text}")})]
        case Step.DEAD:
            return [("task-failed", {**row, **_failed(f"{replayed}, which is dead: {text}")})]
        case Step.SUPERSEDED:
            return [("task-revoked", {**row, **_revoked(f"{replayed}, which is superseded")})]
        case _:
            return []


def _succeeded(result: str) -> dict[str, Any]:
    # Else a row would go on showing what was wrong before.
    return {"result": result, "exception": None, "traceback": None}


def _failed(exception: str) -> dict[str, Any]:
    return {"exception": exception, "traceback": None}


def _revoked(exception: str) -> dict[str, Any]:
    return {**_failed(exception), "terminated": False, "signum": None, "expired": False}
