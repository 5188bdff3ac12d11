"""A shop in a process of its own: it commits an order at a time, and notes it once COMMIT has returned.

`python -m tests.proof.producer BOOK FIRST COUNT [KEYS]`, with the database in PRODUCER_DATABASE_URL. Its
orders are of so many keys, in turn; each thirteenth is one that OrderFlow refuses.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from sqlalchemy import create_engine

from orderflow_outbox import enqueue
from orderflow_outbox.sqlite import prepare
from tests.documents import order

from .book import Book

REFUSED = "refused"


def identity_of(number: int) -> str:
    """Return the identity of the order of this number, which tells what the receiver makes of it."""
    return f"{REFUSED if number % 13 == 12 else 'order'}-{number}"


def produce(url: str, file: Path, first: int, count: int, keys: int) -> None:
    """Commit orders, and note each in the book."""
    engine, book = prepare(create_engine(url)), Book(file)
    for number in range(first, first + count):
        identity, document = identity_of(number), order(f"SO-{number}").encode()
        key = f"order:{number % keys}"
        with engine.begin() as connection:
            made = enqueue(
                connection, "order-import", document, channel="web", key=key, idempotency_key=identity
            )
        book.write(id=made.id, identity=identity, key=key, sha256=hashlib.sha256(document).hexdigest())
    engine.dispose()


if __name__ == "__main__":
    _file, _first, _count, *_keys = sys.argv[1:]
    produce(
        os.environ["PRODUCER_DATABASE_URL"],
        Path(_file),
        int(_first),
        int(_count),
        int(_keys[0]) if _keys else int(_count),
    )
