"""The outbox as a model: what its rules say, in a few lines of plain Python without a database.

It is what the real store is compared with, step by step, and what the promises are tried on by the thousand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from orderflow_outbox import Catalogue, Operation, WhenDead
from orderflow_outbox.operations import IMPORTS

CATALOGUE = Catalogue(
    [
        Operation("entry", "entry.xml", None, IMPORTS),
        Operation("notice", "notice.xml", None, IMPORTS, when_dead=WhenDead.PASS),
        Operation("price", "price.xml", None, IMPORTS, supersedes=("price", "discount")),
        Operation("discount", "discount.xml", None, IMPORTS, when_dead=WhenDead.PASS),
        Operation("label", "label.xml", None, IMPORTS, supersedes=("label",), when_dead=WhenDead.PASS),
    ]
)
WAITS = (1.0, 2.0)
"""Seconds before the second and the third try."""
LEASE = 90.0
QUARANTINED_FROM, MOST_DEATHS, MOST_RESCUES = 2, 2, 10
"""From so many rescues on a message is in quarantine; it dies of so many deaths there, or rescues in all."""
JUMP = 3 * 3600.0
"""How far the clock is set forward, or back, in seconds."""
OPEN, REPLAYED, DISCARDED = "open", "replayed", "discarded"
ENDED = ("delivered", "dead", "superseded", "cancelled")

DONE = ("success", "duplicate")
AGAIN = ("retry", "omitted")


class New(NamedTuple):
    """What a shop enqueues.

    Attributes:
        items: their references.
        life: how long until it expires, in seconds.
        unseen: the shop does not see what it makes obsolete, as where two enqueue at once.
    """

    operation: str
    key: str | None
    version: int | None
    items: tuple[str, ...]
    life: float | None
    unseen: bool


class Told(NamedTuple):
    """What an attempt came to.

    Attributes:
        verdict: delivered, split, refused, later, unsent, absent or untold.
        in_doubt: whether the message is in doubt after it.
        results: of each item, where they went different ways: success, duplicate, refused, retry, omitted.
    """

    verdict: str
    in_doubt: bool
    results: tuple[str, ...] = ()


@dataclass
class Row:
    """One message."""

    number: int
    operation: str
    key: str | None
    version: int | None
    items: tuple[str, ...]
    position: int
    expires: float | None
    due: float | None
    state: str = "pending"
    blocks: bool = False
    attempts: int = 0
    tries: int = 0
    rescues: int = 0
    deaths: int = 0
    in_doubt: bool = False
    token: int = 0
    lease: float | None = None
    replay_of: int | None = None
    split_from: int | None = None
    letter: str | None = None

    @property
    def waits_when_dead(self) -> bool:
        return self.key is not None and CATALOGUE[self.operation].when_dead is WhenDead.WAIT

    @property
    def superseded_by(self) -> Sequence[str]:
        return CATALOGUE.superseded_by.get(self.operation, ())


class Model:
    """An outbox whose clock starts at 0."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rows: list[Row] = []
        self.seen: dict[tuple[str, str], int] = {}

    # What a shop does.

    def enqueue(self, given: New) -> None:
        operation, key, version, items, life, unseen = given
        expires = None if life is None else self.now + life
        number = len(self.rows)
        new = Row(number, operation, key, version, items, number, expires, self.now, blocks=key is not None)
        self.rows.append(new)
        if key is None or unseen:
            return
        if version is not None and (self._is_outrun(new) or self._is_overtaken(new)):
            self._end(new, "superseded")
            return
        retired = [
            old
            for old in self._of_key(key)
            if old.blocks
            and old.state == "pending"
            and old.position < new.position
            and old.operation in CATALOGUE[operation].supersedes
            and _no_higher(old.version, version)
        ]
        for old in retired:
            self._end(old, "superseded")
        if retired:
            self._unpark([key])

    # What an engine does.

    def claim(self, quarantined: bool = False) -> list[int]:
        """Lease all that is due and may be sent, in quarantine or not; return their numbers."""
        due = [row for row in self.rows if row.state == "pending" and row.due is not None]
        due = [row for row in due if (row.rescues >= QUARANTINED_FROM) == quarantined]
        due = [row for row in due if row.due is not None and row.due <= self.now]
        blocked = [row.number for row in due if self._has_elder(row)]
        claimed = []
        for row in due:
            if row.number in blocked:
                row.due = None
            else:
                row.state, row.lease = "sending", self.now + LEASE
                row.attempts, row.token = row.attempts + 1, row.token + 1
                claimed.append(row)
        over = [row for row in claimed if self._is_outdated(row)]
        for row in over:
            self._end(row, "superseded")
        self._unpark(row.key for row in over)
        return [row.number for row in claimed if row.state == "sending"]

    def record(self, number: int, token: int, told: Told) -> None:
        """Write what came of a claim, unless its lease was taken over."""
        row = self.rows[number]
        if row.state != "sending" or row.token != token:
            return
        outdated = self._is_outdated(row)
        row.in_doubt, row.lease = told.in_doubt, None
        match told.verdict:
            case "delivered" | "split":
                self._deliver(row)
                self._split(row, told, outdated)
            case "refused":
                self._die(row)
            case "later":
                self._try_again(row, row.tries + 1)
            case "unsent":
                row.state, row.due = "pending", self.now
            case "absent":
                self._wait(row, 0.0)
            case "untold":
                self._wait(row, WAITS[min(row.attempts, len(WAITS)) - 1])
        self._settle(row, outdated)

    def die(self, number: int, token: int) -> None:
        """Note that a process died over a claim, unless its lease was taken over."""
        row = self.rows[number]
        if row.state != "sending" or row.token != token:
            return
        outdated = self._is_outdated(row)
        row.in_doubt, row.lease, row.deaths = True, None, row.deaths + 1
        if row.deaths < MOST_DEATHS:
            self._wait(row, WAITS[min(row.attempts, len(WAITS)) - 1])
        else:
            self._die(row)
        self._settle(row, outdated)

    def _settle(self, row: Row, outdated: bool) -> None:
        if outdated and row.state != "delivered":
            self._end(row, "superseded")
            row.letter = None
        if not row.blocks:
            self._unpark([row.key])

    def sweep(self) -> None:
        over = [
            row
            for row in self.rows
            if row.state == "pending"
            and (_is_past(row.expires, self.now) or (row.due is not None and row.rescues >= MOST_RESCUES))
        ]
        for row in self.rows:
            if row.state == "sending" and row.lease is not None and row.lease < self.now:
                row.state, row.due, row.lease = "pending", self.now, None
                row.token, row.rescues, row.in_doubt = row.token + 1, row.rescues + 1, True
        for row in self.rows:
            if row.state == "pending" and row.due is None and not self._has_elder(row):
                row.due = self.now
        for row in over:
            self._die(row)
        self._unpark(row.key for row in over if not row.blocks)

    # What a person does.

    def replay(self, number: int, force: bool) -> bool:
        """Replay a dead message; return whether that could be done."""
        origin = self.rows[number]
        if origin.letter != OPEN:
            return False
        obsolete = self._is_obsolete(origin)
        if obsolete and not force:
            return False
        new = Row(
            len(self.rows),
            origin.operation,
            origin.key,
            self._highest_version(origin) if obsolete else origin.version,
            origin.items,
            len(self.rows) if obsolete else origin.position,
            None if _is_past(origin.expires, self.now) else origin.expires,
            self.now,
            blocks=origin.key is not None,
            in_doubt=origin.in_doubt,
            replay_of=number,
            split_from=origin.split_from,
        )
        self.rows.append(new)
        origin.blocks, origin.letter = False, REPLAYED
        if obsolete:
            self._unpark([origin.key])
        return True

    def discard(self, number: int) -> bool:
        row = self.rows[number]
        if row.letter != OPEN:
            return False
        row.letter, row.blocks = DISCARDED, False
        self._unpark([row.key])
        return True

    def cancel(self, number: int) -> bool:
        row = self.rows[number]
        if row.state != "pending":
            return False
        self._end(row, "cancelled")
        self._unpark([row.key])
        return True

    # The rules.

    def _of_key(self, key: str | None) -> list[Row]:
        return [row for row in self.rows if key is not None and row.key == key]

    def _has_elder(self, row: Row) -> bool:
        return any(other.blocks and other.position < row.position for other in self._of_key(row.key))

    def replacing(self, row: Row) -> list[Row]:
        """Return the messages that come after this one in its key, or before it with a higher version."""
        return [
            other
            for other in self._of_key(row.key)
            if other.operation in row.superseded_by
            and (
                (other.position > row.position and _no_higher(row.version, other.version))
                or _is_higher(other.version, row.version)
            )
        ]

    def _is_overtaken(self, row: Row) -> bool:
        return any(
            other.blocks and other.operation in row.superseded_by and _is_higher(other.version, row.version)
            for other in self._of_key(row.key)
        )

    def _is_outrun(self, row: Row) -> bool:
        return row.key is not None and any(
            _is_higher(self.seen.get((operation, row.key)), row.version) for operation in row.superseded_by
        )

    def _is_outdated(self, row: Row) -> bool:
        return any(other.blocks for other in self.replacing(row)) or self._is_outrun(row)

    def _is_obsolete(self, row: Row) -> bool:
        replaced = any(other.blocks or other.state == "delivered" for other in self.replacing(row))
        return replaced or self._is_outrun(row)

    def _highest_version(self, row: Row) -> int | None:
        if row.version is None or row.key is None:
            return None
        others = [
            other.version
            for other in self._of_key(row.key)
            if other.blocks and other.operation in row.superseded_by
        ]
        seen = [self.seen.get((operation, row.key)) for operation in row.superseded_by]
        return max(each for each in (row.version, *others, *seen) if each is not None)

    def _unpark(self, keys: Iterable[str | None]) -> None:
        for key in set(keys):
            blocking = [row for row in self._of_key(key) if row.blocks]
            for row in blocking:
                first = min(each.position for each in blocking)
                if row.state == "pending" and row.due is None and row.position == first:
                    row.due = self.now

    def _end(self, row: Row, state: str, blocks: bool = False) -> None:
        row.state, row.due, row.lease, row.blocks = state, None, None, blocks

    def _deliver(self, row: Row) -> None:
        self._end(row, "delivered")
        row.in_doubt = False
        if row.key is not None and row.version is not None:
            of = row.operation, row.key
            self.seen[of] = max(row.version, self.seen.get(of, row.version))

    def _die(self, row: Row) -> None:
        self._end(row, "dead", blocks=row.waits_when_dead)
        row.letter = OPEN

    def _try_again(self, row: Row, tries: int) -> None:
        row.tries = tries
        if tries > len(WAITS):
            self._die(row)
        else:
            self._wait(row, WAITS[tries - 1])

    def _wait(self, row: Row, seconds: float) -> None:
        row.state, row.due = "pending", self.now + seconds
        if _is_past(row.expires, row.due):
            self._die(row)

    def _split(self, row: Row, told: Told, outdated: bool) -> None:
        """Make messages of their own of the items that went another way than the rest: the dead one first."""
        pairs = list(zip(row.items, told.results, strict=True)) if told.results else []
        doubted = told.in_doubt
        for kinds in (("refused",), AGAIN):
            items = tuple(item for item, result in pairs if result in kinds)
            if not items:
                continue
            omitted = any(result == "omitted" for item, result in pairs if item in items)
            child = replace(
                row,
                number=len(self.rows),
                items=items,
                state="pending",
                attempts=0,
                rescues=0,
                deaths=0,
                token=0,
                in_doubt=doubted or omitted,
                replay_of=None,
                split_from=row.number,
                letter=None,
                blocks=row.key is not None,
            )
            self.rows.append(child)
            if outdated:
                child.tries += kinds == AGAIN
                self._end(child, "superseded")
            elif kinds == AGAIN:
                self._try_again(child, row.tries + 1)
            else:
                self._die(child)


def _no_higher(one: int | None, other: int | None) -> bool:
    return one is None or other is None or one <= other


def _is_higher(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one > other


def _is_past(end: float | None, now: float) -> bool:
    return end is not None and end <= now
