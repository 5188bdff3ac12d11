"""Dead letters: grouped by cause, and one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from starlette.responses import Response

from config import Role
from worker.personal_views import masked_groups, masked_letters
from worker.store import browsing, surveying
from worker.store.finding import Row
from worker.web.chosen import Chosen, looked_for
from worker.web.console import Visit

ON_A_PAGE = 50


def page(visit: Visit) -> Response:
    """List dead letters, grouped by cause and one by one."""
    chosen = looked_for(visit)
    personal = visit.console.personal
    with visit.store.reading() as transaction:
        groups = surveying.groups(transaction, chosen.wanted)
        letters: Sequence[Row] = browsing.dead_page(
            transaction, chosen.wanted, ON_A_PAGE + 1, _before(visit.query.get("before", ""))
        )
        more = letters[ON_A_PAGE - 1] if len(letters) > ON_A_PAGE else None
        texts = visit.may(Role.OPERATOR)
        if texts:
            groups = list(masked_groups(transaction, groups, personal))
        letters = masked_letters(transaction, letters[:ON_A_PAGE], personal)
    return visit.page(
        "dead.html",
        now=transaction.now,
        groups=[(each, _of_group(chosen, each)) for each in groups],
        letters=letters,
        number=sum(each.number for each in groups),
        chosen=chosen,
        before=None if more is None else f"{more['died_at'].isoformat()} {more['message_id']}",
        is_first="before" not in visit.query,
        texts=texts,
    )


def _of_group(chosen: Chosen, group: surveying.Group) -> Chosen:
    """Return the letters of a group, of those that were looked for."""
    cause = {"destination": group.destination, "operation": group.operation, "reason": group.reason}
    return Chosen(replace(chosen.wanted, **cause), {**chosen.fields, **cause})  # type: ignore[arg-type]


def _before(text: str) -> tuple[datetime, int] | None:
    """Return the place that a page begins after; what is none is the beginning."""
    moment, _, number = text.rpartition(" ")
    try:
        found = datetime.fromisoformat(moment)
        place = found.astimezone(UTC), int(number)
    except (ValueError, OverflowError):
        return None
    return place if found.tzinfo and 0 < place[1] < 2**63 else None
