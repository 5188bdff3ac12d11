"""What recorded results mean for the gates of their destinations, in the transaction that records them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from config import Destination

from .deliveries import Outcome
from .gate import Gate, after, is_good
from .store import gates
from .store.causes import AlertTimes
from .store.transactions import Transaction


class Gatekeeper:
    """Keeps the gates for one recorder.

    As long as a destination works its gate is only read; it is locked and written where something changes.

    Attributes:
        shut: of the destinations it met last, those where nothing is sent now but a probe.
    """

    def __init__(self, destinations: Mapping[str, Destination], alert_times: AlertTimes) -> None:
        self._destinations = destinations
        self._alert_times = alert_times
        self._changing: Sequence[str] = ()
        self.shut: frozenset[str] = frozenset()

    def opens_at(self, transaction: Transaction, outcomes: Sequence[Outcome]) -> list[datetime | None]:
        """Return for each outcome when the next probe is made, if the breaker is open by then; else None."""
        before = gates.read(transaction, {each.claim.destination for each in outcomes})
        known, found = dict(before), []
        for outcome in outcomes:
            gate = self._after(known[outcome.claim.destination], outcome, transaction.now)
            known[outcome.claim.destination] = gate
            found.append(None if gate.breaker.is_closed else gate.breaker.probe_at)
        self._changing = sorted(name for name in known if known[name] != before[name])
        self.shut = frozenset(name for name in known if known[name].is_shut(transaction.now))
        return found

    def note(self, transaction: Transaction, outcomes: Sequence[Outcome]) -> None:
        """Change the gates as those outcomes tell; another engine may have changed them meanwhile."""
        for name in self._changing:
            before = after_all = gates.lock(transaction, name)
            for outcome in outcomes:
                if outcome.claim.destination == name:
                    after_all = self._after(after_all, outcome, transaction.now)
            gates.write(transaction, name, before, after_all, self._alert_times)

    def _after(self, gate: Gate, outcome: Outcome, now: datetime) -> Gate:
        if gate.is_calm and is_good(outcome):
            return gate
        return after(gate, outcome, now, self._destinations[outcome.claim.destination])
