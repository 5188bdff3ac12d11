"""The engine's side: it starts the process while there is something for it to send, and sees how it ends."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from config import Configuration
from config.loading import FILE_VARIABLE
from worker.deliveries import Claim, Outcome
from worker.lifetimes import policy_of
from worker.looking import Looker
from worker.ports import Announce, Step, step_to
from worker.processes import die_with_parent, how_it_ended
from worker.settling import obsolete, settle, when_dead
from worker.store.causes import AlertTimes
from worker.store.obsolescence import outdated
from worker.store.quarantine import is_at_work, log_death
from worker.store.recording import record
from worker.store.transactions import Store

from .judging import PROCESS_DIED, verdict_on
from .telling import LEFT, TAKEN, told_by

PROGRAM = [sys.executable, "-m", "worker.quarantine"]
SHORTEST_REST_SECONDS, LONGEST_REST_SECONDS = 2.0, 60.0

log = logging.getLogger(__name__)


class Death(NamedTuple):
    """A process that died over a message, and how it ended."""

    claim: Claim
    how: str


class Keeper:
    """Keeps the quarantine of one engine.

    Args:
        store: the engine's own.
        configuration: destinations and settings.
        alert_times: when the alert of a dead letter leaves.
        announce: is told of each step of a message in quarantine.
        monotonic: the process's clock.
    """

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        alert_times: AlertTimes,
        announce: Announce,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._configuration = configuration
        self._alert_times = alert_times
        self._announce = announce
        self._looker = Looker.by(configuration, store, quarantined=True, monotonic=monotonic)
        self._monotonic = monotonic
        self._pause = 0.0
        self._rests_until = float("-inf")
        self._process: subprocess.Popen[str] | None = None
        self._stopping = False

    def is_wanted(self) -> bool:
        """Tell whether a message in quarantine may be sent now, and no process has one already."""
        if self._monotonic() < self._rests_until:
            return False
        with self._store.reading() as transaction:
            if is_at_work(transaction):
                return False
        return bool(self._looker.look(dict.fromkeys(self._configuration.destinations, 0)).full)

    def watch(self) -> Death | None:
        """Run the process until it ends; return the message that it died over, if it did.

        Call it from a thread that lives as long as the engine: the process ends with it.
        """
        taken: Claim | None = None
        has_sent = False
        with self._started() as process:
            self._process = process
            if self._stopping:
                self.stop()
            assert process.stdout is not None  # noqa: S101 (it is a pipe)
            for line in process.stdout:
                told = told_by(line)
                if told.what in (TAKEN, LEFT):
                    taken = told.claim if told.what == TAKEN else None
                    has_sent = True
                else:
                    self._announce(Step(told.what), told.claim, told.text, told.seconds)
        self._process = None
        self._rest(has_sent)
        if taken is None or process.returncode == 0 or self._stopping:
            return None
        return Death(taken, how_it_ended(process.returncode))

    def bury_or_retry(self, death: Death) -> None:
        """Write what becomes of the message: dead after the second time, and tried again before."""
        claim = death.claim
        catalogue = self._configuration.catalogue
        with self._store.writing() as transaction:
            logged = log_death(transaction, claim, PROCESS_DIED, f"the process that had it alone {death.how}")
            if logged is None:
                return
            claim, deaths = logged
            verdict = verdict_on(deaths, death.how)
            settlement = settle(
                Outcome(claim, verdict, in_doubt=True),
                transaction.now,
                policy_of(self._configuration, claim.destination, claim.operation),
                when_dead(catalogue, claim.operation),
                random.random,
            )
            if outdated(transaction, [claim], catalogue.superseded_by):
                settlement = obsolete(settlement)
            record(transaction, [settlement], self._alert_times)
        log.error("message %d: %s", claim.id, verdict.why.text)
        self._announce(step_to(settlement.state), claim, verdict.why.text, 0.0)

    def _rest(self, has_sent: bool) -> None:
        """Start no other for a while where this one could not send anything: longer each time."""
        self._pause = (
            0.0 if has_sent else min(LONGEST_REST_SECONDS, max(SHORTEST_REST_SECONDS, 2 * self._pause))
        )
        self._rests_until = self._monotonic() + self._pause

    def kill(self) -> None:
        """End the process now, whatever it is at."""
        if (process := self._process) is not None:
            with suppress(OSError):
                process.kill()

    def stop(self) -> None:
        """Have the process finish what it is at, within its bound, and end."""
        self._stopping = True
        if (process := self._process) is not None:
            with suppress(OSError):
                process.terminate()

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            PROGRAM,
            env={**os.environ, FILE_VARIABLE: str(self._configuration.file.resolve())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
