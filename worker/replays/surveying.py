"""A dry run: what a replay of many would come to, before anything is sent.

Each message has at most one bar, for which it would not be sent, and any number of cautions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from config import Configuration
from orderflow_outbox import Resolution, State
from worker.gate import Gate
from worker.schemas import Schemas
from worker.store import gates, surveying
from worker.store.finding import Filter
from worker.store.obsolescence import made_obsolete
from worker.store.transactions import Store, Transaction

from .replaying import obsolete_by

EXAMPLES = 5
"""So many messages of each finding are named."""


class Finding(StrEnum):
    """What is found of a message that is to be replayed."""

    READY = "ready"
    NOT_THERE = "not_there"
    NOT_DEAD = "not_dead"
    REPLAYED = "replayed"
    DISCARDED = "discarded"
    OBSOLETE = "obsolete"
    NOT_CONFIGURED = "not_configured"
    UNKNOWN_OPERATION = "unknown_operation"
    UNFIT = "unfit"
    EXPIRED = "expired"
    SHUT = "shut"
    BLOCKED = "blocked"
    IN_DOUBT = "in_doubt"


IN_WORDS = {
    Finding.READY: "ready",
    Finding.NOT_THERE: "not there",
    Finding.NOT_DEAD: "not dead",
    Finding.REPLAYED: "replayed before",
    Finding.DISCARDED: "discarded",
    Finding.OBSOLETE: "superseded by a later one, or a higher version",
    Finding.NOT_CONFIGURED: "to a destination that is not configured",
    Finding.UNKNOWN_OPERATION: "of an operation that is not known",
    Finding.UNFIT: "would fail the XML schema",
    Finding.EXPIRED: "past the end that the shop gave them: replayed, they have none",
    Finding.SHUT: "to a destination that is held, paused or left alone: they wait",
    Finding.BLOCKED: "behind an earlier one of their key: they wait for it",
    Finding.IN_DOUBT: "in doubt: checked before they are sent, or perhaps sent twice",
}
"""Each finding, as it is said of messages."""
_WAITS = frozenset({Finding.SHUT, Finding.BLOCKED})
"""The cautions of messages that wait for something else before they are sent."""


@dataclass(frozen=True, slots=True)
class Looked:
    """A message that was looked at.

    Attributes:
        cause: by what it is grouped with others: its destination, its operation and what it died of.
        bar: why it would not be sent, in a word and for a person; None where it would be.
        cautions: what else should be known of it, likewise.
    """

    id: int
    cause: tuple[str, str, str]
    bar: tuple[Finding, str] | None
    cautions: tuple[tuple[Finding, str], ...] = ()

    @property
    def is_ready(self) -> bool:
        """Whether it would be sent at once, and tell how the others will fare."""
        return self.bar is None and not any(finding in _WAITS for finding, _ in self.cautions)


@dataclass(slots=True)
class Found:
    """The messages of one finding: how many, and the first of them with what is to be said."""

    number: int = 0
    examples: list[tuple[int, str]] = field(default_factory=list)

    def add(self, message_id: int, text: str) -> None:
        """Count one in."""
        self.number += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append((message_id, text))


@dataclass(slots=True)
class Survey:
    """What a dry run found.

    Attributes:
        total: how many messages were looked at.
        sendable: how many of them would be sent.
        found: by finding; a message may be in several, but in none beside a bar.
    """

    total: int = 0
    sendable: int = 0
    found: dict[Finding, Found] = field(default_factory=dict)

    def add(self, looked: Looked) -> None:
        """Count one message in."""
        self.total += 1
        self.sendable += looked.bar is None
        findings = [looked.bar] if looked.bar else [*looked.cautions] or [(Finding.READY, "")]
        for finding, text in findings:
            self.found.setdefault(finding, Found()).add(looked.id, text)


def survey(store: Store, wanted: Filter, configuration: Configuration) -> Survey:
    """Return what a replay of the messages wanted would come to; nothing is written.

    Only numbers and a few examples are kept of them, however many they are.
    """
    made = Survey()
    for each in look_at(store, wanted, configuration):
        made.add(each)
    return made


def look_at(store: Store, wanted: Filter, configuration: Configuration) -> Iterator[Looked]:
    """Yield each message wanted with what is found of it, in order of the numbers."""
    look = _Look(configuration)
    missing = set() if wanted.is_shared else set(wanted.ids)
    with store.reading() as transaction:
        for rows in surveying.candidates(transaction, wanted):
            missing -= {row.id for row in rows}
            yield from look.at(transaction, rows)
    yield from (_barred(each, Finding.NOT_THERE, "there is no such message") for each in sorted(missing))


class _Look:
    """Looks at messages, a batch at a time."""

    def __init__(self, configuration: Configuration) -> None:
        self._destinations = configuration.destinations
        self._catalogue = configuration.catalogue
        self._with_schema = frozenset(configuration.schemas)
        self._schemas = Schemas(configuration.schemas)
        self._told_obsolete = 0

    def at(self, transaction: Transaction, rows: Sequence[Any]) -> Iterator[Looked]:
        """Yield each message of a batch with what is found of it."""
        of_letter = {row.id: _bar_of_letter(row) for row in rows}
        open_ones = [row for row in rows if of_letter[row.id] is None]
        obsolete = self._obsolete(transaction, open_ones)
        unfit = self._unfit(transaction, open_ones)
        shut = gates.read(transaction, {row.destination for row in open_ones})
        for row in rows:
            bar = of_letter[row.id] or obsolete.get(row.id) or self._bar_of_configuration(row)
            bar = bar or unfit.get(row.id)
            cause = row.destination, row.operation, row.reason or ""
            cautions = () if bar else tuple(_cautions(row, shut[row.destination], transaction.now))
            yield Looked(row.id, cause, bar, cautions)

    def _obsolete(self, transaction: Transaction, rows: Sequence[Any]) -> Mapping[int, tuple[Finding, str]]:
        found: dict[int, tuple[Finding, str]] = {}
        for operation in sorted({row.operation for row in rows}):
            by = self._catalogue.superseded_by.get(operation, ())
            of_it = {row.id: row for row in rows if row.operation == operation and row.key is not None}
            if not by or not of_it:
                continue
            for message_id in sorted(made_obsolete(transaction, list(of_it), by)):
                text = self._why_obsolete(transaction, of_it[message_id], by)
                found[message_id] = Finding.OBSOLETE, text
        return found

    def _why_obsolete(self, transaction: Transaction, row: Any, by: Sequence[str]) -> str:
        """Return by what it is obsolete, of the first ones: of the rest nobody reads it."""
        self._told_obsolete += 1
        if self._told_obsolete > EXAMPLES:
            return "another one of its key takes its place"
        return obsolete_by(transaction, row, by) or "another one of its key takes its place"

    def _unfit(self, transaction: Transaction, rows: Sequence[Any]) -> Mapping[int, tuple[Finding, str]]:
        """Return those that would be refused before they are sent, which those in doubt are not."""
        operations = {
            row.id: row.operation for row in rows if row.operation in self._with_schema and not row.in_doubt
        }
        if not operations:
            return {}
        problems = (
            (number, self._schemas.problem(operations[number], document))
            for number, document in surveying.documents(transaction, list(operations))
        )
        return {number: (Finding.UNFIT, problem) for number, problem in problems if problem is not None}

    def _bar_of_configuration(self, row: Any) -> tuple[Finding, str] | None:
        if row.destination not in self._destinations:
            return Finding.NOT_CONFIGURED, f"no destination {row.destination} is configured"
        if row.operation not in self._catalogue:
            return Finding.UNKNOWN_OPERATION, f"this service knows no operation {row.operation}"
        return None


def _barred(message_id: int, finding: Finding, text: str) -> Looked:
    return Looked(message_id, ("", "", ""), (finding, text))


def _bar_of_letter(row: Any) -> tuple[Finding, str] | None:
    if row.state != State.DEAD:
        return Finding.NOT_DEAD, f"it is {row.state}"
    if row.replay is not None:
        return Finding.REPLAYED, f"as message {row.replay}, which is {row.replay_state}"
    if row.resolution == Resolution.DISCARDED:
        return Finding.DISCARDED, "it was discarded"
    return None


def _cautions(row: Any, gate: Gate, now: datetime) -> Iterator[tuple[Finding, str]]:
    if row.expires_at is not None and row.expires_at <= now:
        yield Finding.EXPIRED, f"its end was on {row.expires_at:%Y-%m-%d %H:%M:%S} UTC"
    if gate.is_shut(now):
        how = "held" if gate.is_held else "paused" if gate.is_paused(now) else "left alone but for probes"
        yield Finding.SHUT, f"{row.destination} is {how}"
    if row.has_elder:
        yield Finding.BLOCKED, f"an earlier one of {row.key} blocks"
    if row.in_doubt:
        yield Finding.IN_DOUBT, "it may have been carried out"
