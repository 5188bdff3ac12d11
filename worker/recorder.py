"""Writing results down, in groups, whatever stands in the way.

While results cannot be written nothing is claimed; a result that the database cannot store never
takes its neighbours along; one whose lease was taken over is dropped and logged.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy.exc import DBAPIError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from config import Configuration
from orderflow_outbox import State

from .deliveries import Outcome, Settlement
from .excerpts import cut_text
from .failpoints import Failpoint, come_by
from .gatekeeper import Gatekeeper
from .ports import Announce, Step, step_to
from .settling import obsolete, settle, when_dead
from .store.causes import AlertTimes
from .store.obsolescence import outdated
from .store.recording import record, still_held
from .store.transactions import Store, Transaction
from .switch import LoggedSwitch

GROUP_SIZE = 250
RETRY_SECONDS = 0.5
log = logging.getLogger(__name__)


class Recorder:
    """Records outcomes for one engine; its methods run in the engine's store thread.

    Attributes:
        group_size: how many outcomes one transaction writes at most.
        retry_seconds: how long to wait after `record` could not write.
        recorded: how many results were written so far.
        unblocked: how many messages that were parked behind the last group are due now.
    """

    group_size = GROUP_SIZE
    retry_seconds = RETRY_SECONDS

    def __init__(
        self, store: Store, configuration: Configuration, alert_times: AlertTimes, announce: Announce
    ) -> None:
        self._store = store
        self._destinations = configuration.destinations
        self._catalogue = configuration.catalogue
        self._superseded_by = configuration.catalogue.superseded_by
        self._alert_times = alert_times
        self._announce = announce
        self._gatekeeper = Gatekeeper(configuration.destinations, alert_times)
        self.recorded = 0
        self.unblocked = 0
        self._writing = LoggedSwitch(log, "results are written again", "results cannot be written")

    @property
    def is_stuck(self) -> bool:
        """Whether the last group could not be written."""
        return not self._writing.is_on

    @property
    def shut(self) -> frozenset[str]:
        """The destinations of the last group that were found shut, or were shut by what came of it."""
        return self._gatekeeper.shut

    def record(self, outcomes: Sequence[Outcome]) -> bool:
        """Write a group; return False when the database cannot be written to just now."""
        self.unblocked = 0
        try:
            settlements = self._write_or_split(outcomes)
        except Exception as error:
            if not is_away(error):
                raise
            self._writing.off(error)
            return False
        self._writing.on()
        self.recorded += sum(each.claim.attempt > 0 for each in settlements)
        for each in settlements:
            self._tell(each)
        return True

    def _write_or_split(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        try:
            return self._write(outcomes)
        except Exception as error:
            if is_away(error):
                raise
            log.warning("a group of %d results was refused (%s): one by one", len(outcomes), _kind(error))
        return [each for outcome in outcomes for each in self._write_alone(outcome)]

    def _write_alone(self, outcome: Outcome) -> list[Settlement]:
        for with_evidence in (True, False):
            try:
                return self._write([outcome if with_evidence else _printable(outcome)], with_evidence)
            except Exception as error:
                if is_away(error):
                    raise
                log.error("message %d: its result was refused: %s", outcome.claim.id, _kind(error))
        return []

    def _write(self, outcomes: Sequence[Outcome], with_evidence: bool = True) -> list[Settlement]:
        with self._store.writing() as transaction:
            held = still_held(transaction, [each.claim for each in outcomes])
            settlements = self._settled_all(transaction, [each for each in outcomes if each.claim.id in held])
            children, unblocked = record(transaction, settlements, self._alert_times, with_evidence)
            self._gatekeeper.note(transaction, [each.outcome for each in settlements])
            come_by(Failpoint.BEFORE_RESULT_COMMITS)
        come_by(Failpoint.AFTER_RESULT_COMMITS)
        self.unblocked += unblocked
        for each in outcomes:
            if each.claim.id not in held:
                log.warning(
                    "message %d: a late result of attempt %d was dropped, its lease had been taken over",
                    each.claim.id,
                    each.claim.attempt,
                )
        return [*settlements, *children]

    def _settled_all(self, transaction: Transaction, outcomes: Sequence[Outcome]) -> list[Settlement]:
        opens = self._gatekeeper.opens_at(transaction, outcomes)
        settlements = [self._settled(*each, transaction) for each in zip(outcomes, opens, strict=True)]
        to_do = [each.claim for each in settlements if each.state is not State.DELIVERED or each.children]
        over = outdated(transaction, to_do, self._superseded_by)
        return [obsolete(each) if each.claim.id in over else each for each in settlements]

    def _settled(self, outcome: Outcome, opens_at: datetime | None, transaction: Transaction) -> Settlement:
        claim = outcome.claim
        policy = self._destinations[claim.destination].retry_policy(claim.operation)
        followers = when_dead(self._catalogue, claim.operation)
        return settle(outcome, transaction.now, policy, followers, random.random, opens_at=opens_at)

    def _tell(self, settlement: Settlement) -> None:
        verdict = settlement.outcome.verdict
        if verdict is None:
            return
        step = step_to(settlement.state)
        text = (settlement.death or verdict.why).text
        if step is not Step.DELIVERED and settlement.outcome.reply is not None:
            text = cut_text(text, settlement.claim.payload)
        self._announce(step, settlement.claim, text, settlement.outcome.seconds)


def is_away(error: Exception) -> bool:
    """Tell whether an error is of the database, not of what was to be written.

    Such as a lost connection, a lock waited for too long, a full disk, or a server that only reads.
    """
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, OperationalError | InternalError | PoolTimeoutError)


def _printable(outcome: Outcome) -> Outcome:
    """Return `outcome` with a reason in words that every database can store."""
    if outcome.verdict is None:
        return outcome
    why = outcome.verdict.why
    text = "".join(c if c.isprintable() else "?" for c in why.text)
    return replace(outcome, verdict=replace(outcome.verdict, why=replace(why, text=text)))


def _kind(error: BaseException) -> str:
    return type(error.__cause__ or error).__name__
