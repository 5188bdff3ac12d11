"""The sweep: leases that ran out, parked messages nobody unparked, messages near their end and past it.

Cheap and idempotent, so that every engine, the scheduler and a person may run it at once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime

from config import Configuration

from .deliveries import Claim, Outcome, Settlement
from .failpoints import Failpoint, come_by
from .lifetimes import lifetimes_of, policy_of
from .quarantine.judging import MOST_RESCUES, worn_out
from .settling import expiry, settle, when_dead
from .store.aging import lives_of_the_waiting, told_of
from .store.causes import AlertTimes
from .store.ordering import free_forgotten, has_forgotten
from .store.quarantine import rescued_often
from .store.recording import record
from .store.sweeping import has_run_out, past_their_end, rescue, take_unsent
from .store.transactions import Store
from .warning import warn

LONGEST_SWEEP_PAUSE_SECONDS = 60.0
"""An engine sweeps at least this often, however long each sweep takes."""


@dataclass(frozen=True, slots=True)
class Swept:
    """How many messages a sweep took back, unparked, found near their end, and ended."""

    rescued: int
    unparked: int
    aging: int
    expired: int


def sweep(store: Store, configuration: Configuration, alert_times: AlertTimes) -> Swept:
    """Take back, unpark and end what is due for it, a bounded batch of each; warn of what will end soon."""
    lifetimes = lifetimes_of(configuration)
    with store.reading() as look:
        to_free = has_run_out(look) or has_forgotten(look)
        lives = lives_of_the_waiting(look, lifetimes)
        over = past_their_end(look, lifetimes) if lives.some_over else []
        over += rescued_often(look, MOST_RESCUES)
        told = told_of(look)
    if lives.aging or told:
        warn(store, configuration, lives.aging, told, alert_times)
    rescued = unparked = expired = 0
    if to_free:
        with store.writing() as transaction:
            rescued = rescue(transaction)
            unparked = free_forgotten(transaction)
            come_by(Failpoint.IN_SWEEP)
    if over:
        with store.writing() as transaction:
            endings = [
                _ending(claim, transaction.now, configuration) for claim in take_unsent(transaction, over)
            ]
            record(transaction, endings, alert_times)
            expired = len(endings)
    return Swept(rescued, unparked, sum(each.number for each in lives.aging), expired)


def _ending(claim: Claim, now: datetime, configuration: Configuration) -> Settlement:
    policy = policy_of(configuration, claim.destination, claim.operation)
    verdict = expiry(claim, now, policy) or worn_out()  # what is not past its end was rescued too often
    outcome = Outcome(claim, verdict, in_doubt=claim.in_doubt)
    followers = when_dead(configuration.catalogue, claim.operation)
    return settle(outcome, now, policy, followers, random.random)
