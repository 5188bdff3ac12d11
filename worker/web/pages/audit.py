"""The audit: who did what, when and why."""

from __future__ import annotations

from starlette.responses import Response

from worker.personal_views import masked_audit
from worker.store import browsing
from worker.web.console import Visit

ON_A_PAGE = 100
VERBS = (
    "acknowledge",
    "begin-run",
    "cancel",
    "cancel-run",
    "continue-run",
    "discard",
    "edit",
    "erase",
    "erased",
    "finish-run",
    "hold",
    "limit",
    "query",
    "replay",
    "resume",
    "stop-run",
)
"""What people and the service are known to do."""


def page(visit: Visit) -> Response:
    """List what was done, the latest first."""
    by, verb = visit.query.get("by", "").strip()[:255], visit.query.get("verb", "")[:32]
    with visit.store.reading() as transaction:
        rows = browsing.audit_page(
            transaction, ON_A_PAGE + 1, by.replace("\0", ""), verb.replace("\0", ""), visit.place("before")
        )
        shown = masked_audit(transaction, rows[:ON_A_PAGE], visit.console.personal)
    return visit.page(
        "audit.html",
        now=transaction.now,
        rows=shown,
        by=by,
        verb=verb,
        verbs=VERBS,
        before=rows[ON_A_PAGE - 1]["id"] if len(rows) > ON_A_PAGE else None,
    )
