"""Finding the messages of a key, whether the service has indexed their terms or not yet."""

from __future__ import annotations

from sqlalchemy import Subquery, func, select, union_all

from .tables import term, unindexed
from .terms import KEY, SEPARATOR


def numbers_of_key(key: str) -> Subquery:
    """Return the numbers of all messages of `key`, to whatever destination, as column `message_id`.

    It is for one statement: between two a message may go from the one table to the other, and be in neither.
    """
    # Its terms begin with its key. No index knows that, but few messages wait to be indexed.
    beginning = f"{KEY}{SEPARATOR}{key}{SEPARATOR}"
    begins_so = func.substr(unindexed.c.terms + SEPARATOR, 1, len(beginning)) == beginning
    return union_all(
        select(term.c.message_id).where(term.c.name == KEY, term.c.value == key),
        select(unindexed.c.message_id).where(begins_so),
    ).subquery()
