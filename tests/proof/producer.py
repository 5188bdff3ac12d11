"""A shop in a process of its own: it commits an order at a time, and notes it once COMMIT has returned.

`python -m tests.proof.producer BOOK FIRST COUNT [KEYS [early]]`, with the database in PRODUCER_DATABASE_URL.
Its orders are of so many keys of its own, in turn; each thirteenth is one that OrderFlow refuses. One that
could not be committed is tried again by the same identity: nobody knows what became of a COMMIT that broke
off. The shop notes, too, when a transaction begins and when a hint leaves; an `early` one sends its hints
before COMMIT.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError

from orderflow_outbox import Hints, enqueue, hint_after_commit
from orderflow_outbox.sqlite import prepare
from tests.documents import order

from .book import Book

REFUSED = "refused"
BEGUN, COMMITTED, HINTED = "begun", "committed", "hinted"
EARLY = "early"
PATIENCE_SECONDS = 60.0


def identity_of(number: int) -> str:
    """Return the identity of the order of this number, which tells what the receiver makes of it."""
    return f"{REFUSED if number % 13 == 12 else 'order'}-{number}"


def take_order(
    engine: Engine, book: Book, number: int, key: str, before_commit: Callable[[], None] = lambda: None
) -> bool:
    """Commit the order of this number, and note in the book what becomes of it; tell whether it is new."""
    identity, document = identity_of(number), order(f"SO-{number}").encode()
    with engine.connect() as connection:  # a hint leaves when it is given back
        with connection.begin():
            book.write(event=BEGUN, identity=identity)
            made = enqueue(
                connection, "order-import", document, channel="web", key=key, idempotency_key=identity
            )
            before_commit()
        sha256 = hashlib.sha256(document).hexdigest()
        book.write(event=COMMITTED, id=made.id, identity=identity, key=key, sha256=sha256)
    return made.created


def produce(url: str, file: Path, first: int, count: int, keys: int, early: bool = False) -> None:
    """Take orders, each until it is committed."""
    engine, book = prepare(create_engine(url)), Book(file)
    hints = hint_after_commit(engine, partial(book.write, event=HINTED))
    before_commit = hints.hint if early else lambda: None
    for number in range(first, first + count):
        key = f"order:{first}-{number % keys}"
        _until_committed(partial(take_order, engine, book, number, key, before_commit), hints)
    engine.dispose()


def _until_committed(take: Callable[[], bool], hints: Hints) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while True:
        over = _over(hints)
        try:
            is_new = take()
        except DBAPIError as error:
            if time.monotonic() > ends:
                raise
            sys.stderr.write(f"an order could not be committed: {error.orig}\n")
            time.sleep(0.1)
        else:
            break
    # So that none is noted after its time; where a COMMIT broke off and was kept, the repeat has none.
    while is_new and _over(hints) == over:
        time.sleep(0.001)


def _over(hints: Hints) -> int:
    """Return how many hints have left, or never will."""
    return hints.sent + hints.suppressed + hints.failed


if __name__ == "__main__":
    _file, _first, _count, *_more = sys.argv[1:]
    produce(
        os.environ["PRODUCER_DATABASE_URL"],
        Path(_file),
        int(_first),
        int(_count),
        int(_more[0]) if _more else int(_count),
        EARLY in _more,
    )
