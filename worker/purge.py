"""The purge: what has been kept for as long as the settings say goes for good, a bounded batch at a time.

Cheap and idempotent, so that every engine and a person may run it at once: each takes other messages. It is
the only thing that deletes messages, and deletes whole ones that have ended, never one whose letter is open.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from config import RetentionSettings

from .store import purging
from .store.purging import PAGE, Kept
from .store.transactions import Store, Transaction

BATCH = 50
"""Messages of one transaction at most: on SQLite everyone waits meanwhile."""
BATCH_BYTES = 1_000_000
"""Past so many bytes of documents and replies a transaction takes no further message."""
ROUND_SECONDS = 3600.0
"""From the end of an engine's round over all that is old to the begin of its next."""
TOLD_SECONDS = 86_400.0
"""How often at most the log tells what went."""
SHARE_WHILE_BUSY = 0.02
"""The share of time that the purge may take while messages are in hand."""
SHARE = 0.5
"""The share of time with none in hand: a shop may be waiting."""
AUDIT, RUNS, INCIDENTS = "audit", "replay_runs", "incidents"
"""What goes beside messages."""

Family = Sequence[Kept]
"""A message and its replays, which go together: else the identity would be free while one of them lives."""

log = logging.getLogger(__name__)


def is_over(message: Kept, keep: RetentionSettings, now: datetime) -> bool:
    """Tell whether a message has been kept for long enough."""
    span = keep.of(message.state)
    return span is not None and message.ended_at is not None and message.ended_at + span <= now


@dataclass(frozen=True, slots=True)
class Found:
    """What one look at the messages found.

    Attributes:
        families: those that go.
        last: the number of the last message looked at.
        more: whether there may be others after that.
    """

    families: Sequence[Family]
    last: int
    more: bool


def look(transaction: Transaction, after: int, keep: RetentionSettings) -> Found:
    """Look at the messages after a number; past a page of such as are too young to go there are no more."""
    now, shortest = transaction.now, keep.shortest
    if shortest is None:
        return Found((), after, more=False)
    page = purging.page(transaction, after)
    old = [each for each in page if each.created_at + shortest <= now]
    more = len(page) == PAGE and bool(old)
    # A replay is looked at with what it replays.
    over = [each for each in old if each.replay_of is None and is_over(each, keep, now)]
    families = _families(transaction, over[:BATCH], keep, now)
    batch = _within_bytes(transaction, families)
    if len(batch) < len(families):
        last, more = batch[-1][0].id, True
    elif len(over) > BATCH:
        last, more = over[BATCH - 1].id, True
    else:
        last = page[-1].id if page else after
    return Found(batch, last, more)


def _families(
    transaction: Transaction, over: Sequence[Kept], keep: RetentionSettings, now: datetime
) -> list[list[Kept]]:
    """Return each message with its replays, without those of which one must be kept."""
    families = {each.id: [each] for each in over}
    family_of = {each.id: each.id for each in over}
    newest = list(family_of)
    while newest:
        replays = purging.replays_of(transaction, newest)
        newest = []
        for each in replays:
            assert each.replay_of is not None  # noqa: S101 (it was asked for)
            first = family_of[each.id] = family_of[each.replay_of]
            newest.append(each.id)
            families[first].append(each)
    return [family for family in families.values() if all(is_over(each, keep, now) for each in family)]


def _within_bytes(transaction: Transaction, families: Sequence[Family]) -> Sequence[Family]:
    """Return the first families, one at least, up to the bytes of a batch."""
    if not families:
        return families
    sizes = purging.sizes_of(transaction, [each.id for family in families for each in family])
    taken = 0
    for number, family in enumerate(families):
        taken += sum(sizes.get(each.id, 0) for each in family)
        if taken > BATCH_BYTES:
            return families[: max(1, number)]
    return families


class Purger:
    """Purges a batch at a time, from the oldest message on, and remembers how far it came.

    Args:
        store: where.
        keep: how long what is kept.

    Attributes:
        gone: how much went, by state and kind.
    """

    def __init__(self, store: Store, keep: RetentionSettings) -> None:
        self._store = store
        self._keep = keep
        self._after = 0
        self.gone: Counter[str] = Counter()

    def begin_again(self) -> None:
        """Begin another round, from the first message on."""
        self._after = 0

    def purge_some(self) -> bool:
        """Purge a bounded batch; return whether there may be more in this round.

        A read comes first: with nothing to purge the write lock is never asked for.
        """
        with self._store.reading() as transaction:
            found = look(transaction, self._after, self._keep)
        if found.families:
            with self._store.writing() as transaction:
                gone = purging.purge(transaction, found.families)
            self.gone.update(each.state for each in gone)
        self._after = found.last
        return found.more or self._purge_records()

    def _purge_records(self) -> bool:
        """Purge a batch of the audit, of replay runs and of incidents; return whether there may be more."""
        audit: Sequence[int] = ()
        runs: Sequence[int] = ()
        incidents: Sequence[int] = ()
        with self._store.reading() as transaction:
            if self._keep.audit is not None:
                audit = purging.old_audit(transaction, transaction.now - self._keep.audit)
                runs = purging.old_runs(transaction, transaction.now - self._keep.audit)
            if self._keep.incidents is not None:
                incidents = purging.old_incidents(transaction, transaction.now - self._keep.incidents)
        if not audit and not runs and not incidents:
            return False
        with self._store.writing() as transaction:
            self.gone[AUDIT] += purging.purge_audit(transaction, audit)
            self.gone[RUNS] += purging.purge_runs(transaction, runs)
            self.gone[INCIDENTS] += purging.purge_incidents(transaction, incidents)
        return True


def what_would_go(store: Store, keep: RetentionSettings) -> Iterator[Counter[str]]:
    """Yield what a purge would delete, batch by batch, and delete nothing."""
    after, more = 0, True
    while more:
        with store.reading() as transaction:
            found = look(transaction, after, keep)
        after, more = found.last, found.more
        yield Counter(each.state for family in found.families for each in family)
    with store.reading() as transaction:
        now = transaction.now
        if keep.audit is not None:
            yield Counter({AUDIT: purging.count_audit(transaction, now - keep.audit)})
            yield Counter({RUNS: purging.count_runs(transaction, now - keep.audit)})
        if keep.incidents is not None:
            yield Counter({INCIDENTS: purging.count_incidents(transaction, now - keep.incidents)})


def pause_after(seconds: float, *, more: bool, busy: bool) -> float:
    """Return how long an engine waits until its next batch, in seconds.

    Args:
        seconds: how long the last one took.
        more: whether there may be more in this round.
        busy: whether messages are in hand, for which the purge makes room.
    """
    if not more:
        return ROUND_SECONDS
    share = SHARE_WHILE_BUSY if busy else SHARE
    return seconds * (1 - share) / share


class Teller:
    """Tells the log what went, once a day at most.

    Args:
        monotonic: the process's clock.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._told_at = float("-inf")

    def tell(self, gone: Counter[str]) -> None:
        """Tell what went, unless that was done within the day, and count anew from then on."""
        now = self._monotonic()
        if gone.total() and now - self._told_at >= TOLD_SECONDS:
            log.info("purged, as kept for long enough: %s", in_words(gone))
            self._told_at = now
            gone.clear()


def in_words(gone: Mapping[str, int]) -> str:
    """Return in words how much went, of each state and kind."""
    named = {AUDIT: "rows of the audit", RUNS: "replay runs", INCIDENTS: "incidents"}
    parts = [f"{count} {named.get(kind, kind)}" for kind, count in sorted(gone.items()) if count]
    return ", ".join(parts) or "nothing"
