"""How long a receiver asks us to wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from worker.deliveries import Reply

_LONGEST_NUMBER = 9


def asked_to_wait(reply: Reply, now: datetime) -> timedelta | None:
    """Return the wait asked for by Retry-After (RFC 9110 section 10.2.3); junk is ignored."""
    value = reply.header("retry-after").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit() and len(value) <= _LONGEST_NUMBER:
        return timedelta(seconds=int(value))
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(moment - now, timedelta()) or None
