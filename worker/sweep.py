"""The sweep: leases that ran out, parked messages nobody unparked, messages past their end.

Cheap and idempotent, so that every engine, the scheduler and a person may run it at once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime

from config import Configuration, Destination, RetryPolicy

from .deliveries import Claim, Outcome, Settlement
from .settling import expiry, settle, when_dead
from .store.burying import AlertTimes
from .store.ordering import free_forgotten, has_forgotten
from .store.recording import record
from .store.sweeping import Ages, has_run_out, past_their_end, rescue, take_unsent
from .store.transactions import Store

UNKNOWN_DESTINATION = RetryPolicy(retry_after=[])
"""How long messages are kept for a destination that the configuration does not name."""


@dataclass(frozen=True, slots=True)
class Swept:
    """How many messages a sweep took back, unparked and ended."""

    rescued: int
    unparked: int
    expired: int


def sweep(store: Store, configuration: Configuration, alert_times: AlertTimes) -> Swept:
    """Take back, unpark and end what is due for it, a bounded batch of each."""
    ages = {name: _ages(each) for name, each in configuration.destinations.items()}
    with store.reading() as look:
        to_free = has_run_out(look) or has_forgotten(look)
        over = past_their_end(look, ages, UNKNOWN_DESTINATION.max_age)
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
    return Swept(rescued, unparked, expired)


def _ages(destination: Destination) -> Ages:
    own = {name: settings.retry.max_age for name, settings in destination.operations.items()}
    return Ages(destination.retry.max_age, own)


def _ending(claim: Claim, now: datetime, configuration: Configuration) -> Settlement:
    known = configuration.destinations.get(claim.destination)
    policy = UNKNOWN_DESTINATION if known is None else known.retry_policy(claim.operation)
    outcome = Outcome(claim, expiry(claim, now, policy), in_doubt=claim.in_doubt)
    followers = when_dead(configuration.catalogue, claim.operation)
    return settle(outcome, now, policy, followers, random.random)
