"""What must hold of a whole story beside what the checker of the proof asks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from orderflow_outbox import State
from tests.model import ENDED
from tests.proof.checker import Evidence
from worker.quarantine.judging import CRASH_LOOP, MOST_DEATHS, MOST_RESCUES, PROCESS_DIED

WAYS = {
    State.PENDING: {State.PENDING, State.SENDING, State.CANCELLED, State.SUPERSEDED},
    State.SENDING: {State.PENDING, State.DELIVERED, State.DEAD, State.SUPERSEDED},
}
"""Where a message may go from each state; what has ended goes nowhere."""


WATCHED = "/"
"""What stands between the name of an engine's process and that of one it watches."""


class Change(NamedTuple):
    """One line of the journal: a message before and after one statement, and who made it.

    Attributes:
        elders: how many earlier ones of its key blocked it then.
        passes: whether later ones of its key need not wait for it.
    """

    at: str
    writer: str
    message: int
    was: str
    state: str
    token_was: int
    token: int
    attempts_was: int
    attempts: int
    elders: int
    passes: bool


class Told(NamedTuple):
    """An alert that a hook took."""

    at: datetime
    incident: int


def wrong_ways(journal: Sequence[Change]) -> Iterator[str]:
    """Tell of changes that no message may make, or not by whoever made it."""
    holder: dict[int, str] = {}
    for change in journal:
        for wrong in _wrong(change, holder.get(change.message)):
            yield f"{wrong}: {change}"
        if change.state == State.SENDING:
            holder[change.message] = change.writer


def _wrong(change: Change, holder: str | None) -> Iterator[str]:
    moved = change.state != change.was
    if change.was in ENDED and (moved or change.token != change.token_was):
        yield "final: what has ended goes on"
    if moved and change.was not in ENDED and change.state not in WAYS[State(change.was)]:
        yield "states: there is no such way"
    if change.token < change.token_was or change.attempts < change.attempts_was:
        yield "lease: a count went back"
    if moved and change.state == State.SENDING:
        if change.token != change.token_was + 1:
            yield "lease: a claim has no token of its own"
        if change.attempts > change.attempts_was and change.elders:
            yield "order: it is claimed behind one that blocks"
    elif change.attempts != change.attempts_was:
        yield "uncounted: attempts are counted by a claim alone"
    if change.passes and (change.state not in ENDED or (moved and change.state == State.DEAD)):
        yield "order: it lets later ones of its key pass"
    # An engine writes what it saw become of the process that it watches.
    is_its_own = holder is not None and holder.partition(WATCHED)[0] == change.writer.partition(WATCHED)[0]
    if moved and change.was == State.SENDING and change.token == change.token_was and not is_its_own:
        yield f"lease: it is held by {holder}"


def unsaid_doubts(
    seen: Evidence, references: Mapping[str, Sequence[str]], taken_in: Iterable[str]
) -> Iterator[str]:
    """Tell of the dead that were carried out without a doubt, and of the delivered that never arrived."""
    known, parents = set(taken_in), {row.split_from for row in seen.messages}
    for row in seen.messages:
        items = references.get(row.idempotency_key, ())
        if row.state == State.DEAD and not row.in_doubt and known.intersection(items):
            yield f"doubt: message {row.id} is dead and was carried out, and nobody says so"
        if row.state == State.DELIVERED and row.id not in parents and not known.issuperset(items):
            yield f"lost: message {row.id} is delivered, and {items} were never taken in"


def unfair_deaths(seen: Evidence) -> Iterator[str]:
    """Tell of messages that died of killing processes, and were not seen to kill two."""
    deaths = Counter(each.message_id for each in seen.attempts if each.reason == PROCESS_DIED)
    rescues = {row.id: row.rescues for row in seen.messages}
    for letter in seen.letters:
        seen_enough = deaths[letter.message_id] >= MOST_DEATHS or rescues[letter.message_id] >= MOST_RESCUES
        if letter.reason == CRASH_LOOP and not seen_enough:
            yield f"unfair: message {letter.message_id} is called poison"


def unheard(seen: Evidence, alerts: Sequence[Told]) -> Iterator[str]:
    """Tell of dead letters that no alert after their death has told of."""
    last: dict[int, datetime] = defaultdict(lambda: datetime.min)
    for alert in alerts:
        last[alert.incident] = alert.at
    for letter in seen.letters:
        if last[letter.incident_id].replace(tzinfo=None) < letter.died_at.replace(tzinfo=None):
            yield f"unheard: the letter of message {letter.message_id} was in no alert"
