"""Warning of messages near the end of their life: once of each, whatever comes and goes meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from config import Configuration

from .lifetimes import lifetimes_of, policy_of
from .retry import end_of_life
from .store.aging import Aging, add_to_warning, aging_since, lock_told, open_warning, resolve_warnings
from .store.causes import AlertTimes
from .store.finding import message_row
from .store.transactions import Store, Transaction


def warn(
    store: Store,
    configuration: Configuration,
    near: Sequence[Aging],
    told: Mapping[tuple[str, str], datetime],
    alert_times: AlertTimes,
) -> None:
    """Have an incident tell of messages near their end that it does not tell of, and close what is settled.

    Args:
        near: what is near its end now.
        told: up to which moment the open incidents tell of such, by destination and operation.
    """
    lifetimes = lifetimes_of(configuration)
    settled = told.keys() - {(each.destination, each.operation) for each in near}
    with store.reading() as look:
        more = [
            each
            for each in near
            if (since := told.get((each.destination, each.operation))) is None
            or aging_since(look, each, since, lifetimes)
        ]
    if not (more or settled):
        return
    with store.writing() as transaction:
        for each in more:
            text = _warning(transaction, each, configuration)
            since = lock_told(transaction, each)
            if since is None:
                open_warning(transaction, each, text, alert_times)
            elif new := aging_since(transaction, each, since, lifetimes):  # not told of by another meanwhile
                add_to_warning(transaction, each, new, text, alert_times)
        resolve_warnings(transaction, sorted(settled))


def _warning(transaction: Transaction, near: Aging, configuration: Configuration) -> str:
    """Return what is told of messages near their end."""
    waited = f"undelivered after {configuration.settings.alerts.expiry_warning:.0%} of their life"
    row = message_row(transaction, near.first)
    if row is None:
        return waited
    policy = policy_of(configuration, near.destination, near.operation)
    end = end_of_life(row["created_at"], row["expires_at"], policy)
    return f"{waited}; the first, message {near.first}, ends on {end:%Y-%m-%d %H:%M:%S} UTC"
