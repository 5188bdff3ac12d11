"""The slots of a destination that each engine holds, all of them together no more than its window."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, select

from orderflow_outbox.dialects import insert_on
from orderflow_outbox.tables import gate_share
from worker.sharing import fair_shares, may_take

from .gates import lock
from .transactions import Transaction, bound_idling

IDLE_SECONDS = 2
"""How long a frozen engine keeps the others from renewing: they all wait for the same gate."""


def take(
    transaction: Transaction,
    destination: str,
    engine: str,
    window: int,
    *,
    wanted: int,
    in_use: int,
    lasting: timedelta,
) -> int:
    """Return how many slots an engine may use from now on; those of engines that did not renew have lapsed.

    It is never given one that another holds: where its fair share is larger than what is left, it gets the
    rest once the others renew theirs. One with more in use than its fair share goes on holding those until
    their requests are over.

    Args:
        wanted: how many it has a use for.
        in_use: how many it cannot give back now, since requests are in progress.
        lasting: how long they are its own.
    """
    bound_idling(transaction.connection, IDLE_SECONDS)
    lock(transaction, destination)
    connection, now = transaction.connection, transaction.now
    connection.execute(
        delete(gate_share).where(gate_share.c.destination == destination, gate_share.c.until <= now)
    )
    rows = connection.execute(
        select(gate_share.c.engine, gate_share.c.slots, gate_share.c.wanted).where(
            gate_share.c.destination == destination
        )
    ).all()
    held: dict[str, int] = {row.engine: row.slots for row in rows}
    wants: dict[str, int] = {**{row.engine: row.wanted for row in rows}, engine: wanted}
    usable = min(fair_shares(window, wants)[engine], may_take(window, held, engine))
    if not (usable or in_use or wanted):
        give_back(transaction, engine, destination)
        return 0
    values = {"slots": max(usable, in_use), "wanted": wanted, "until": now + lasting}
    connection.execute(
        insert_on(connection, gate_share)
        .values(destination=destination, engine=engine, **values)
        .on_conflict_do_update(index_elements=[gate_share.c.destination, gate_share.c.engine], set_=values)
    )
    return usable


def give_back(transaction: Transaction, engine: str, destination: str | None = None) -> None:
    """Give back an engine's slots, of one destination or of all."""
    own = gate_share.c.engine == engine
    if destination is not None:
        own = own & (gate_share.c.destination == destination)
    transaction.connection.execute(delete(gate_share).where(own))
