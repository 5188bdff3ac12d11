"""The checker of the proof is not blind: each promise that is broken is told."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from tests.proof.checker import Evidence, violations
from tests.proof.producer import BEGUN, COMMITTED, HINTED

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def row(number: int, **others: Any) -> Any:
    values = {
        "id": number,
        "destination": "main",
        "key": "order:1",
        "idempotency_key": f"order-{number}",
        "state": "delivered",
        "lease_until": None,
        "lease_token": 1,
        "attempts": 1,
        "blocks": False,
        "replay_of": None,
        "split_from": None,
    }
    return SimpleNamespace(**{**values, **others})


def requested(number: int, sha256: str = "aa") -> dict[str, Any]:
    return {"event": "request", "identity": f"order-{number}", "sha256": sha256}


def taken(number: int) -> list[dict[str, Any]]:
    """Return what a shop notes of an order: its transaction, and the hint after it."""
    identity = f"order-{number}"
    committed = {"event": COMMITTED, "id": number, "identity": identity, "sha256": "aa"}
    return [{"event": BEGUN, "identity": identity}, committed, {"event": HINTED}]


GOOD = Evidence(
    shop=[*taken(1), *taken(2)],
    requests=[requested(1), requested(2)],
    messages=[row(1), row(2)],
    attempts=[SimpleNamespace(message_id=n) for n in (1, 2)],
    letters=[],
    incidents=[],
)
DEAD = row(2, state="dead", blocks=True)
LETTER = SimpleNamespace(message_id=2, incident_id=7)

BROKEN = {
    "a message is gone": (replace(GOOD, messages=[row(1)]), "lost: message 2"),
    "it was never received": (replace(GOOD, requests=[requested(1)]), "the receiver never saw it"),
    "nobody committed it": (replace(GOOD, requests=[*GOOD.requests, requested(3)]), "phantom: .*'order-3'"),
    "a hint left before the commit": (
        replace(GOOD, shop=[*taken(1), taken(2)[0], {"event": HINTED}, *taken(2)[1:]]),
        "early: a hint left while the transaction of 'order-2'",
    ),
    "it is being sent without a lease": (
        replace(GOOD, messages=[row(1), row(2, state="sending")]),
        "lease: message 2",
    ),
    "it has ended with a lease": (
        replace(GOOD, messages=[row(1), row(2, lease_until=NOON)]),
        "lease: message 2",
    ),
    "an attempt had no token of its own": (
        replace(GOOD, messages=[row(1), row(2, attempts=2)]),
        "2 attempts on 1 tokens",
    ),
    "it was sent before it was counted": (
        replace(GOOD, requests=[requested(1), requested(2), requested(2)]),
        "uncounted: 'order-2' was received 2 times on 1 attempts",
    ),
    "more was logged than counted": (
        replace(GOOD, attempts=[*GOOD.attempts, SimpleNamespace(message_id=2)]),
        "message 2 counts 1 attempts; 2 are logged",
    ),
    "nothing was logged": (replace(GOOD, attempts=[SimpleNamespace(message_id=1)]), "unlogged: message 2"),
    "other bytes were sent": (replace(GOOD, requests=[requested(1), requested(2, "bb")]), "bytes: .*order-2"),
    "it died without a letter": (replace(GOOD, messages=[row(1), DEAD]), "buried: message 2 is dead.* no"),
    "a letter has no incident": (
        replace(GOOD, messages=[row(1), DEAD], letters=[LETTER]),
        "the letter of message 2 is part of no incident",
    ),
    "the later one came first": (
        replace(GOOD, requests=[requested(2), requested(1)]),
        "order: message 2 was sent before the last of message 1",
    ),
    "it was sent behind one that blocks": (
        replace(GOOD, messages=[row(1, state="pending", blocks=True), row(2)]),
        "order: message 2 was sent while message 1 of its key blocks",
    ),
    "one never came to its end": (
        replace(GOOD, messages=[row(1), row(2, state="pending", key=None)]),
        "unfinished: message 2 is pending",
    ),
}


def test_what_is_in_order_breaks_nothing() -> None:
    assert violations(GOOD, at_rest=True) == []


@pytest.mark.parametrize(("seen", "told"), BROKEN.values(), ids=BROKEN.keys())
def test_each_broken_promise_is_told(seen: Evidence, told: str) -> None:
    assert [line for line in violations(seen, at_rest=True) if re.search(told, line)]
