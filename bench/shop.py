"""A web shop in a process of its own: it commits an order at each beat, and tells when.

`python -m bench.shop outbox|plain PREFIX ORDERS SECONDS_BETWEEN FILE` writes, as JSON, the identity of each
order and the moment right after its commit by the monotonic clock, which all processes share.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from celery import Celery
from sqlalchemy import Column, Connection, MetaData, String, Table, column, create_engine, table

from orderflow_outbox import enqueue, hint_after_commit

from .orders import CHANNEL, OPERATION, document, identities
from .with_outbox import Outbox
from .with_plain_task import send_stored

WARM_UP = 20
"""Orders at the same pace before the ones that are told of."""

_metadata = MetaData()
_order = Table("shop_order", _metadata, Column("number", String(64), primary_key=True))
_stored = table("plain_message", column("identity"), column("document"))


def enqueue_order(connection: Connection, identity: str) -> None:
    """Enqueue the order of this identity, as its shop does."""
    enqueue(
        connection,
        OPERATION,
        document(identity),
        channel=CHANNEL,
        key=f"order:{identity}",
        idempotency_key=identity,
    )


def trade(name: str, prefix: str, orders: int, seconds_between: float) -> dict[str, float]:
    """Take orders for the contestant of this name; return each one's identity and moment.

    Args:
        prefix: what the identities begin with.
        orders: how many are told of; `WARM_UP` others come first.
        seconds_between: from the beginning of one order to the beginning of the next.
    """
    engine = create_engine(os.environ["SHOP_DATABASE_URL"])
    app = Celery(broker=os.environ["SHOP_BROKER_URL"], set_as_current=False)
    _metadata.create_all(engine)
    with_outbox = name == Outbox.name
    if with_outbox:
        hint_after_commit(engine, app)
    wait = _metronome(seconds_between)
    moments = {}
    for identity in (*identities(f"{prefix}-first", WARM_UP), *identities(prefix, orders)):
        wait()
        with engine.connect() as connection:
            connection.execute(_order.insert(), {"number": identity})
            if with_outbox:
                enqueue_order(connection, identity)
            else:
                connection.execute(_stored.insert(), {"identity": identity, "document": document(identity)})
            connection.commit()
            moments[identity] = time.monotonic()
        # The end of the block has sent the outbox's hint.
        if not with_outbox:
            send_stored(app, identity)
    return {identity: moments[identity] for identity in identities(prefix, orders)}


def _metronome(seconds: float) -> Callable[[], None]:
    """Return a wait for the next beat; beats that were missed are made up for."""
    beat = time.monotonic()

    def wait() -> None:
        nonlocal beat
        beat += seconds
        time.sleep(max(0.0, beat - time.monotonic()))

    return wait


if __name__ == "__main__":
    _moments = trade(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    Path(sys.argv[5]).write_text(json.dumps(_moments))
