"""Erasing what is known of one customer, who asked for it: what was said goes, what was done stays.

Of each message the document, the replies and every text lifted from them go as a whole, which is surer than
to look for names in them. Each message is a transaction: a run that is cut short is finished by another.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import unescape

from orderflow_outbox import Resolution, State
from orderflow_outbox.terms import KEY

from .by_hand import NotPossible
from .personal_data import MASK, PersonalData, values_from, with_masks
from .personal_views import values_of
from .store import erasing, text_index
from .store.erasing import ERASED, Place
from .store.indexing import has_unindexed, index
from .store.resolving import note_audit
from .store.transactions import Store, Transaction

REFERENCE = "externalReference"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the messages of a customer are found by: any of some terms, a name with a value each."""

    terms: Sequence[tuple[str, str]]

    def for_the_audit(self, personal: PersonalData, found: Collection[str]) -> list[str]:
        """Return what was asked for, without what is erased for it.

        Args:
            found: the personal values in the messages, of which what was asked for may be one.
        """

        def is_kept(name: str, value: str) -> bool:
            return not personal.is_named(name) and without(value, found) == value

        return [f"{name}={value if is_kept(name, value) else MASK}" for name, value in self.terms]

    @property
    def values(self) -> frozenset[str]:
        """The values that answers to queries are looked through for, too."""
        return values_from(value for name, value in self.terms if name != KEY)


def found(store: Store, asked: Asked) -> list[int]:
    """Return the numbers of a customer's messages, those included that were not indexed yet."""
    more = True
    while more:
        with store.reading() as look:
            if not has_unindexed(look):
                break
        with store.writing() as transaction:
            more = index(transaction, wait=True)
    with store.reading() as transaction:
        return erasing.messages_of(transaction, asked.terms)


def obstacle(transaction: Transaction, message_id: int) -> str | None:
    """Return in words why a message cannot be erased now, locking it; None where it can."""
    row = erasing.subject(transaction, message_id)
    if row is None:
        return f"there is no message {message_id}"
    if row["state"] in (State.PENDING, State.SENDING):
        return f"message {message_id} is {row['state']}: cancel it, or erase again once it has ended"
    if row["resolution"] == Resolution.OPEN:
        return f"message {message_id} is dead and its letter open: discard or replay it, and erase again"
    return None


def values_known(store: Store, ids: Sequence[int], personal: PersonalData) -> frozenset[str]:
    """Return the personal values in a customer's messages, which are known only until those are erased."""
    values: frozenset[str] = frozenset()
    for message_id in ids:
        with store.reading() as transaction:
            values |= values_of(transaction, message_id, personal)
    return values


def erase_elsewhere(store: Store, values: Collection[str]) -> int:
    """Erase what is told of the customer beside the messages; return in how many texts and answers."""
    return sum(_erase_in(store, place, values) for place in erasing.ELSEWHERE)


def _erase_in(store: Store, place: Place, values: Collection[str]) -> int:
    """Erase it in one place, a page at a time, of which only what changes is written."""

    def masked(text: str) -> str:
        # It may be about anybody: a name of three letters is a piece of many words.
        return without(text, values, only_words=True)

    changed, after, more = 0, None, True
    while more:
        with store.reading() as transaction:
            page = erasing.told_elsewhere(transaction, place, after)
        hits = [row.key for row in page if row.without(masked) != row.told]
        if hits:
            with store.writing() as transaction:
                changed += sum(erasing.retell(transaction, place, key, masked) for key in hits)
        after, more = (page[-1].key, True) if len(page) == erasing.PAGE else (after, False)
    return changed


def erase(
    store: Store, message_id: int, told: Sequence[str], personal: PersonalData, by: str, why: str
) -> bool:
    """Erase what one message said and was answered; return whether that was still to be done.

    Args:
        told: what was asked for, as the audit may have it.

    Raises:
        NotPossible: it has not ended, or its dead letter is open.
    """
    with store.writing() as transaction:
        reason = obstacle(transaction, message_id)
        if reason is not None:
            raise NotPossible(reason)
        if erasing.is_erased(transaction, message_id):
            return False
        values = values_of(transaction, message_id, personal)
        erasing.erase_content(transaction, message_id, lambda text: without(text, values), personal.is_named)
        detail = {"asked": [*told]}
        note_audit(transaction, verb=ERASED, by=by, why=why, message_id=message_id, detail=detail)
        return True


def erase_from_index(store: Store) -> None:
    """Take what is left of erased texts out of the index of texts, piece by piece, with rests."""
    begin, more = True, True
    while more:
        begun = time.monotonic()
        with store.writing() as transaction:
            more = text_index.merge_some(transaction, begin)
        begin = False
        if more:
            time.sleep(time.monotonic() - begun)


def note_erasure(store: Store, told: Sequence[str], by: str, why: str, erased: int, refused: int) -> None:
    """Write down that an erasure was asked for, by whom and why, and how many messages it was."""
    detail = {"asked": [*told], "erased": erased, "refused": refused}
    with store.writing() as transaction:
        note_audit(transaction, verb="erase", by=by, why=why, detail=detail)


def without(text: str, values: Collection[str], *, only_words: bool = False) -> str:
    """Return a text without values; one that holds none is left as it is, to the letter.

    Args:
        only_words: leave alone what is a piece of a longer word.
    """
    shown = with_masks(unescape(text), values, only_words=only_words)
    return shown if MASK in shown else text
