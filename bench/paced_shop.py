"""A web shop in a process of its own that commits a message at each beat, and sends a hint after it.

`python -m bench.paced_shop PREFIX MESSAGES SECONDS_BETWEEN FILE` writes, as JSON, the identity of each
message and the moment right after its commit by the monotonic clock, which all processes share.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from celery import Celery
from sqlalchemy import create_engine

from orderflow_outbox import enqueue, hint_after_commit

from .orders import CHANNEL, OPERATION, document, identities

WARM_UP = 20
"""Messages at the same pace before the ones that are told of."""


def trade(prefix: str, messages: int, seconds_between: float) -> dict[str, float]:
    """Commit messages to the destination `main`; return each one's identity and moment.

    Args:
        messages: how many are told of; `WARM_UP` others come first.
        seconds_between: from the beginning of one to the beginning of the next.
    """
    engine = create_engine(os.environ["SHOP_DATABASE_URL"])
    hint_after_commit(engine, Celery(broker=os.environ["SHOP_BROKER_URL"], set_as_current=False))
    moments = {}
    beat = time.monotonic()
    for identity in (*identities(f"{prefix}-first", WARM_UP), *identities(prefix, messages)):
        beat += seconds_between
        time.sleep(max(0.0, beat - time.monotonic()))
        with engine.connect() as connection:
            enqueue(
                connection,
                OPERATION,
                document(identity),
                channel=CHANNEL,
                key=f"order:{identity}",
                idempotency_key=identity,
            )
            connection.commit()
            moments[identity] = time.monotonic()
        # The end of the block has sent the hint.
    return {identity: moments[identity] for identity in identities(prefix, messages)}


if __name__ == "__main__":
    _moments = trade(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    Path(sys.argv[4]).write_text(json.dumps(_moments))
