"""The sweep: leases that ran out, parked messages nobody unparked, messages near their end and past it.

Cheap and idempotent, so that every engine, the scheduler and a person may run it at once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime

from config import Configuration, Destination, RetryPolicy

from .deliveries import Claim, Outcome, Settlement
from .retry import end_of_life
from .settling import expiry, settle, when_dead
from .store.aging import Ages, Aging, lives_of_the_waiting, resolve_aging, tell_of, told_of
from .store.burying import AlertTimes
from .store.finding import message_row
from .store.ordering import free_forgotten, has_forgotten
from .store.recording import record
from .store.sweeping import has_run_out, past_their_end, rescue, take_unsent
from .store.transactions import Store, Transaction

UNKNOWN_DESTINATION = RetryPolicy(retry_after=[])
"""How long messages are kept for a destination that the configuration does not name."""


@dataclass(frozen=True, slots=True)
class Swept:
    """How many messages a sweep took back, unparked, found near their end, and ended."""

    rescued: int
    unparked: int
    aging: int
    expired: int


def sweep(store: Store, configuration: Configuration, alert_times: AlertTimes) -> Swept:
    """Take back, unpark and end what is due for it, a bounded batch of each; warn of what will end soon."""
    ages = {name: _ages(each) for name, each in configuration.destinations.items()}
    share = configuration.settings.alerts.expiry_warning
    with store.reading() as look:
        to_free = has_run_out(look) or has_forgotten(look)
        lives = lives_of_the_waiting(look, ages, UNKNOWN_DESTINATION.max_age, share)
        over = past_their_end(look, ages, UNKNOWN_DESTINATION.max_age) if lives.some_over else []
        told = told_of(look)
    near = lives.aging
    more = [each for each in near if each.number > told.get((each.destination, each.operation), 0)]
    settled = list(told.keys() - {(each.destination, each.operation) for each in near})
    if more or settled:
        with store.writing() as transaction:
            texts = [_warning(transaction, each, configuration) for each in more]
            tell_of(transaction, zip(more, texts, strict=True), alert_times)
            resolve_aging(transaction, settled)
    rescued = unparked = expired = 0
    if to_free:
        with store.writing() as transaction:
            rescued = rescue(transaction)
            unparked = free_forgotten(transaction)
    if over:
        with store.writing() as transaction:
            endings = [
                _ending(claim, transaction.now, configuration) for claim in take_unsent(transaction, over)
            ]
            record(transaction, endings, alert_times)
            expired = len(endings)
    return Swept(rescued, unparked, sum(each.number for each in near), expired)


def _warning(transaction: Transaction, near: Aging, configuration: Configuration) -> str:
    """Return what is told of messages near their end."""
    waited = f"undelivered after {configuration.settings.alerts.expiry_warning:.0%} of their life"
    row = message_row(transaction, near.first)
    if row is None:
        return waited
    end = end_of_life(row["created_at"], row["expires_at"], _policy(near, configuration))
    return f"{waited}; the first, message {near.first}, ends on {end:%Y-%m-%d %H:%M:%S} UTC"


def _policy(of: Claim | Aging, configuration: Configuration) -> RetryPolicy:
    known = configuration.destinations.get(of.destination)
    return UNKNOWN_DESTINATION if known is None else known.retry_policy(of.operation)


def _ages(destination: Destination) -> Ages:
    own = {name: settings.retry.max_age for name, settings in destination.operations.items()}
    return Ages(destination.retry.max_age, own)


def _ending(claim: Claim, now: datetime, configuration: Configuration) -> Settlement:
    policy = _policy(claim, configuration)
    outcome = Outcome(claim, expiry(claim, now, policy), in_doubt=claim.in_doubt)
    followers = when_dead(configuration.catalogue, claim.operation)
    return settle(outcome, now, policy, followers, random.random)
