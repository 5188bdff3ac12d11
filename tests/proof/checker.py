"""The checker: what the shop committed, what the receiver saw, and what the database says, held together.

Each rule is one of the invariants of the design; what breaks one is told in a line.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import Engine, Table, select

from orderflow_outbox import State
from orderflow_outbox.tables import attempt, dead_letter, incident, message
from tests.model import ENDED

from .producer import BEGUN, COMMITTED, HINTED

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is compared.

    Attributes:
        shop: the producer's book: transactions that began, what a COMMIT returned for, and hints.
        requests: the receiver's book.
        messages: every row there is; as of the next three.
    """

    shop: Sequence[Entry]
    requests: Sequence[Entry]
    messages: Sequence[Any]
    attempts: Sequence[Any]
    letters: Sequence[Any]
    incidents: Sequence[Any]

    @property
    def committed(self) -> Sequence[Entry]:
        """What a COMMIT returned for."""
        return [each for each in self.shop if each["event"] == COMMITTED]


def evidence(engine: Engine, shop: Sequence[Entry], received: Sequence[Entry]) -> Evidence:
    """Read what the database says, as of one moment."""

    def rows(table: Table) -> Sequence[Any]:
        return connection.execute(select(table).order_by(*table.primary_key)).all()

    requests = [each for each in received if each["event"] == "request"]
    with engine.connect() as connection:
        tables = [rows(each) for each in (message, attempt, dead_letter, incident)]
    return Evidence(shop, requests, *tables)


def violations(seen: Evidence, *, at_rest: bool) -> list[str]:
    """Return a line for each broken promise.

    Args:
        at_rest: whether nothing is under way any more, so that every message must have come to its end.
    """
    rules = [
        _no_loss,
        _no_phantom,
        _no_early_hint,
        _one_lease,
        _counted_before_sent,
        _same_bytes,
        _buried_as_one,
        _in_order,
    ]
    broken = [line for rule in rules for line in rule(seen)]
    return [*broken, *unfinished(seen)] if at_rest else broken


def unfinished(seen: Evidence) -> Iterator[str]:
    """Tell of messages that have not come to their end, and wait for none that did by dying."""
    dead = [row for row in seen.messages if row.state == State.DEAD]
    waits_for = {(row.destination, row.key) for row in dead if row.blocks}
    for row in seen.messages:
        if row.state not in ENDED and (row.destination, row.key) not in waits_for:
            yield f"unfinished: message {row.id} is {row.state}"


def repeats(seen: Evidence) -> int:
    """Return how many requests came for an identity that had one already."""
    return len(seen.requests) - len(_received(seen))


def _no_loss(seen: Evidence) -> Iterator[str]:
    known, received = {row.id: row for row in seen.messages}, _received(seen)
    for entry in seen.committed:
        row = known.get(entry["id"])
        if row is None:
            yield f"lost: message {entry['id']} was committed and is not there"
        elif row.state == State.DELIVERED and not received[entry["identity"]]:
            yield f"lost: message {row.id} is called delivered, and the receiver never saw it"


def _no_phantom(seen: Evidence) -> Iterator[str]:
    known = {row.idempotency_key for row in seen.messages}
    for identity in sorted(_received(seen).keys() - known):
        yield f"phantom: the receiver saw {identity!r}, which no committed message has"


def _no_early_hint(seen: Evidence) -> Iterator[str]:
    """Tell of hints that left before the message they are of could be seen."""
    open_now = None
    for entry in seen.shop:
        if entry["event"] == HINTED and open_now is not None:
            yield f"early: a hint left while the transaction of {open_now!r} was open"
        elif entry["event"] == BEGUN:
            open_now = entry["identity"]
        elif entry["event"] == COMMITTED:
            open_now = None


def _one_lease(seen: Evidence) -> Iterator[str]:
    for row in seen.messages:
        if (row.state == State.SENDING) != (row.lease_until is not None):
            yield f"lease: message {row.id} is {row.state} with a lease until {row.lease_until}"
        if row.lease_token < row.attempts:
            yield f"lease: message {row.id} has made {row.attempts} attempts on {row.lease_token} tokens"


def _counted_before_sent(seen: Evidence) -> Iterator[str]:
    received, logged = _received(seen), Counter(row.message_id for row in seen.attempts)
    counted: Counter[str] = Counter()
    for row in seen.messages:  # a replay has its origin's identity
        counted[row.idempotency_key] += row.attempts
    for identity, times in received.items():
        if identity in counted and counted[identity] < times:
            yield f"uncounted: {identity!r} was received {times} times on {counted[identity]} attempts"
    for row in seen.messages:
        if row.state == State.DELIVERED and not logged[row.id]:
            yield f"unlogged: message {row.id} is delivered, and no attempt is logged"
        if logged[row.id] > row.attempts:
            yield f"uncounted: message {row.id} counts {row.attempts} attempts; {logged[row.id]} are logged"


def _same_bytes(seen: Evidence) -> Iterator[str]:
    meant = {entry["identity"]: entry["sha256"] for entry in seen.committed}
    for entry in seen.requests:
        if meant.get(entry["identity"], entry["sha256"]) != entry["sha256"]:
            yield f"bytes: a request of {entry['identity']!r} had others than were committed"


def _buried_as_one(seen: Evidence) -> Iterator[str]:
    letters, incidents = {row.message_id for row in seen.letters}, {row.id for row in seen.incidents}
    for row in seen.messages:
        if (row.state == State.DEAD) != (row.id in letters):
            has = "a" if row.id in letters else "no"
            yield f"buried: message {row.id} is {row.state}, and has {has} letter"
    for letter in seen.letters:
        if letter.incident_id not in incidents:
            yield f"buried: the letter of message {letter.message_id} is part of no incident"


def _in_order(seen: Evidence) -> Iterator[str]:
    """Tell of messages that the receiver saw before an earlier one of their key had come to its end.

    What has ended is sent no more: so all requests of the earlier one come before the first of the later one.
    """
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for place, entry in enumerate(seen.requests):
        first.setdefault(entry["identity"], place)
        last[entry["identity"]] = place
    of_key: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in seen.messages:
        if row.key is not None and row.replay_of is None and row.split_from is None:
            of_key[row.destination, row.key].append(row)
    for rows in of_key.values():
        for earlier, later in pairwise(rows):
            begun = first.get(later.idempotency_key)
            if begun is None:
                continue
            if last.get(earlier.idempotency_key, -1) > begun:
                yield f"order: message {later.id} was sent before the last of message {earlier.id} of its key"
            if earlier.blocks:
                yield f"order: message {later.id} was sent while message {earlier.id} of its key blocks"


def _received(seen: Evidence) -> Counter[str]:
    return Counter(entry["identity"] for entry in seen.requests)
