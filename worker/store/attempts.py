"""The transaction log: an attempt's row is written once, with its outcome and the results of its items."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from orderflow_outbox.messages import MAX_REFERENCE_CHARACTERS
from orderflow_outbox.states import RELEASED
from orderflow_outbox.tables import attempt, item
from worker.deliveries import Outcome, Reply, Settlement
from worker.verdicts import word_of

from .bulk import insert_many
from .indexing import ask_for_texts
from .transactions import Transaction

MAX_STORED_REPLY_BYTES = 64 * 1024
MAX_STORED_HEADERS = 100

RESCUED = "rescued"


def log(transaction: Transaction, settlements: list[Settlement], with_evidence: bool = True) -> None:
    """Write an attempt row for each settlement whose request may have left.

    Args:
        with_evidence: False leaves the reply out, for one the database cannot store.
    """
    sent = [each for each in settlements if each.outcome.request is not None]
    if sent:
        insert_many(transaction.connection, attempt, [_row(each, with_evidence) for each in sent])
        told = [
            each.claim for each in sent if with_evidence and each.outcome.reply and each.outcome.reply.body
        ]
        ask_for_texts(transaction, [(claim.id, claim.attempt) for claim in told])
    items = [row for each in sent for row in _items(each.outcome)]
    if items:
        insert_many(transaction.connection, item, items)


def log_unknown(
    transaction: Transaction, attempts: Iterable[tuple[int, int]], reason: str, error: str
) -> None:
    """Write a row for each attempt that nobody knows the outcome of.

    Args:
        attempts: the message's number and the attempt's, of each.
    """
    transaction.connection.execute(
        attempt.insert(),
        [
            {
                "message_id": message_id,
                "n": n,
                "finished_at": transaction.now,
                "verdict": RESCUED,
                "reason": reason,
                "error": error,
                "in_doubt": True,
            }
            for message_id, n in attempts
        ],
    )


def _items(outcome: Outcome) -> list[dict[str, Any]]:
    return [
        {
            "message_id": outcome.claim.id,
            "n": outcome.claim.attempt,
            "place": each.place,
            "reference": each.reference[:MAX_REFERENCE_CHARACTERS],
            "verdict": word_of(each.verdict),
            "rule": each.verdict.why.rule,
            "reason": each.verdict.why.reason,
            "text": each.verdict.why.text,
        }
        for each in outcome.items
    ]


def _row(settlement: Settlement, with_evidence: bool) -> dict[str, Any]:
    outcome = settlement.outcome
    started_at = outcome.claim.claimed_at + timedelta(seconds=outcome.started_after)
    verdict = outcome.verdict
    return {
        "message_id": outcome.claim.id,
        "n": outcome.claim.attempt,
        "started_at": started_at,
        "finished_at": started_at + timedelta(seconds=outcome.seconds),
        "seconds": outcome.seconds,
        "verdict": RELEASED if verdict is None else word_of(verdict),
        "rule": None if verdict is None else verdict.why.rule,
        "reason": None if verdict is None else verdict.why.reason,
        "error": "cut short by a stop" if verdict is None else verdict.why.text,
        "in_doubt": settlement.in_doubt,
        "checked_by": outcome.checked_by,
        **_request(outcome),
        **evidence(outcome.reply, with_evidence),
    }


def _request(outcome: Outcome) -> dict[str, Any]:
    request = outcome.request
    assert request is not None  # noqa: S101 (only attempts with a request are logged)
    return {"request_line": request.line, "request_headers": dict(request.shown_headers)}


def evidence(reply: Reply | None, with_body: bool = True) -> dict[str, Any]:
    """Return what is stored of a reply.

    Args:
        with_body: False leaves headers and body out.
    """
    if reply is None or not with_body:
        return {
            "status": None if reply is None else reply.status,
            "reply_headers": None,
            "reply_body": None,
            "reply_complete": None if reply is None else False,
        }
    return {
        "status": reply.status,
        "reply_headers": [list(pair) for pair in reply.headers[:MAX_STORED_HEADERS]],
        "reply_body": reply.body[:MAX_STORED_REPLY_BYTES],
        "reply_complete": reply.complete and len(reply.body) <= MAX_STORED_REPLY_BYTES,
    }
