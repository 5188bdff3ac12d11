"""The dead letters on the page: what it shows, and what its buttons do, without a word of the web.

Everything here waits for the database; the page has it done aside.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from config import load, load_settings
from worker.by_hand import NotPossible, discard
from worker.excerpts import cut_text
from worker.personal_data import PersonalData
from worker.personal_views import masked_letters
from worker.replays.replaying import replay
from worker.store import letters, surveying
from worker.store.finding import Filter, Row, dead_letters
from worker.store.transactions import Store, Transaction
from worker.visiting import hurried_store_of

MOST_CAUSES = 50
LETTERS_A_PAGE = 25
MOST_PAGES = 40
"""What is further back is for the command line, which filters too."""
MOST_AT_ONCE = 100
"""A group is replayed or discarded as one up to this size; a larger one is for the command line."""
STATEMENT_SECONDS = 5
ACTING_SECONDS = 8.0
"""After this nothing more of a group is begun: someone waits for the page."""
MOST_CHARACTERS = 300
LARGEST_COMPARED = 256 * 1024
"""The text of a letter is shown without what it repeats of the document; with a larger one, not at all."""

REFUSALS_TOLD = 3

REPLAY, DISCARD = "replay", "discard"

Act = Callable[[Store, int], str]
"""Does it to one message, and says so."""


class Cause(NamedTuple):
    """What letters of one group have in common; all of it empty for the letters of every group."""

    reason: str = ""
    operation: str = ""
    destination: str = ""

    @property
    def filter(self) -> Filter:
        return Filter(
            reason=self.reason or None, operation=self.operation or None, destination=self.destination or None
        )


@dataclass(frozen=True, slots=True)
class Group:
    """Letters of one cause.

    Attributes:
        until: when the last of them died, for machines: what dies after that was not shown.
        command: what does the same on the command line, but for the reason why.
    """

    cause: Cause
    number: int
    in_doubt: int
    first: str
    last: str
    until: str
    command: str

    @property
    def is_too_large(self) -> bool:
        return self.number > MOST_AT_ONCE


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter, as it is shown."""

    message_id: int
    cause: Cause
    key: str
    text: str
    died: str
    attempts: int
    in_doubt: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """What one page shows.

    Attributes:
        groups: the largest first, `MOST_CAUSES` at most.
        number: how many letters there are of the cause that was asked for.
        page: which of its pages this is, from 1.
    """

    groups: list[Group]
    letters: list[Letter]
    number: int
    page: int

    @property
    def pages(self) -> int:
        return min(MOST_PAGES, -(-self.number // LETTERS_A_PAGE) or 1)

    @property
    def is_cut(self) -> bool:
        return self.number > MOST_PAGES * LETTERS_A_PAGE


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a button.

    Attributes:
        well: whether all of it was done.
    """

    text: str
    well: bool


def look(cause: Cause, page: int) -> Shown:
    """Return what the page shows of the letters of a cause.

    Raises:
        OutboxError: the database cannot be used; why, in one line.
    """
    page = max(1, min(page, MOST_PAGES))
    settings = load_settings()
    with hurried_store_of(settings, STATEMENT_SECONDS) as store, store.reading() as transaction:
        groups = [_group(each) for each in surveying.groups(transaction, Filter())[:MOST_CAUSES]]
        number = letters.number_of(transaction, cause.filter)
        rows = dead_letters(transaction, cause.filter, LETTERS_A_PAGE, skip=(page - 1) * LETTERS_A_PAGE)
        masked = masked_letters(transaction, rows, PersonalData(settings.personal_data.fields))
        return Shown(groups, _letters(transaction, masked), number, page)


def act_on(verb: str, message_ids: list[int], by: str, why: str) -> Done:
    """Replay or discard messages, as the command line does.

    Raises:
        OutboxError: as `look` does; what was done before stays done.
    """
    configuration = load(need_secrets=False)

    def replayed(store: Store, message_id: int) -> str:
        made = replay(store, message_id, by, why, catalogue=configuration.catalogue)
        if made.created:
            return f"message {message_id} is replayed as message {made.replay}"
        return f"message {message_id} was replayed before, as message {made.replay}, which is {made.state}"

    def discarded(store: Store, message_id: int) -> str:
        discard(store, message_id, by, why)
        return f"message {message_id} is discarded"

    act, participle = {REPLAY: (replayed, "replayed"), DISCARD: (discarded, "discarded")}[verb]
    with hurried_store_of(configuration.settings, STATEMENT_SECONDS) as store:
        return _done(store, act, participle, message_ids)


def act_on_group(verb: str, cause: Cause, until: datetime, number: int, by: str, why: str) -> Done:
    """Replay or discard the letters of a cause that were shown, unless there are too many.

    Args:
        until: when the last of them had died.
        number: how many they were.

    Raises:
        OutboxError: as `look` does; what was done before stays done.
    """
    with hurried_store_of(load_settings(), STATEMENT_SECONDS) as store, store.reading() as transaction:
        ids = letters.numbers_of(transaction, cause.filter, until, 0, MOST_AT_ONCE + 1)
    if len(ids) > MOST_AT_ONCE:
        text = f"more than {MOST_AT_ONCE} are too many for a page: {command_of(cause, verb)}"
        return Done(text, well=False)
    if len(ids) > number:
        return Done(f"there are {len(ids)} by now, and {number} were shown: look at them first", well=False)
    return act_on(verb, list(ids), by, why)


def command_of(cause: Cause, verb: str) -> str:
    """Return what replays or discards a whole group on the command line."""
    named = (
        ("--reason", cause.reason),
        ("--operation", cause.operation),
        ("--destination", cause.destination),
    )
    filters = " ".join(f"{option} {shlex.quote(value)}" for option, value in named)
    return f"python -m worker dead {verb} {filters} --why …"


def shown(value: object, most: int = MOST_CHARACTERS) -> str:
    """Return text on one line, cut to `most` characters, each that is not for the eye as a dot."""
    text = "–" if value is None else str(value)
    whole = "".join(character if character.isprintable() else "·" for character in text[: most + 1])
    return whole if len(whole) <= most else whole[:most] + "…"


def _done(store: Store, act: Act, participle: str, message_ids: list[int]) -> Done:
    ends = time.monotonic() + ACTING_SECONDS
    done, refused = list[str](), list[str]()
    for message_id in message_ids:
        if time.monotonic() > ends:
            break
        try:
            done.append(act(store, message_id))
        except NotPossible as error:
            refused.append(str(error))
    told = done if len(message_ids) == 1 else [f"{participle}: {len(done)}"]
    told = [*told, *refused[:REFUSALS_TOLD]]
    if len(refused) > REFUSALS_TOLD:
        told.append(f"{len(refused) - REFUSALS_TOLD} more could not be {participle}")
    if left := len(message_ids) - len(done) - len(refused):
        told.append(f"{left} are left, for which there was no time: do it again")
    return Done("; ".join(told), well=not (refused or left))


def _group(found: surveying.Group) -> Group:
    cause = Cause(found.reason, found.operation, found.destination)
    return Group(
        cause,
        found.number,
        found.in_doubt,
        _moment(found.oldest),
        _moment(found.newest),
        found.newest.isoformat(),
        command_of(cause, REPLAY),
    )


def _letters(transaction: Transaction, rows: Sequence[Row]) -> list[Letter]:
    ids = [row["message_id"] for row in rows]
    documents = letters.small_documents(transaction, ids, LARGEST_COMPARED)
    return [
        Letter(
            row["message_id"],
            Cause(row["reason"], row["operation"], row["destination"]),
            shown(row["key"]),
            shown(_text(row, documents)),
            _moment(row["died_at"]),
            row["attempts"],
            row["in_doubt"],
        )
        for row in rows
    ]


def _text(row: Row, documents: dict[int, bytes | None]) -> str:
    """Return why a message is dead, without what a reply repeated of its document."""
    message_id = row["message_id"]
    if message_id not in documents:
        return f"its document is too large to tell here: python -m worker show {message_id}"
    return cut_text(row["text"], documents[message_id])


def _moment(value: datetime) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
