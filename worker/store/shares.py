"""The slots of a destination that each engine holds, all of them together no more than its window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import delete, select, update

from config import Destination
from orderflow_outbox.dialects import insert_on
from orderflow_outbox.tables import gate_share
from worker.gate import SHUT, Ask, admit
from worker.limits import limited
from worker.sharing import fair_shares, may_take

from . import gates
from .transactions import Transaction, bound_idling

IDLE_SECONDS = 2
"""How long a frozen engine keeps the others from renewing: they all wait for the same gate."""


class Granted(NamedTuple):
    """What an engine may do.

    Attributes:
        slots: requests that it may have in progress.
        to_begin: requests that it may begin; None for any number.
        is_probe: whether the one that it may begin is a probe.
        is_shut: whether nobody may do anything just now.
        is_rising: whether the window doubles with each window of good answers.
    """

    slots: int
    to_begin: int | None = None
    is_probe: bool = False
    is_shut: bool = False
    is_rising: bool = False


def take(
    transaction: Transaction,
    destination: str,
    settings: Destination,
    engine: str,
    ask: Ask,
    *,
    lasting: timedelta,
    lease: timedelta,
) -> Granted:
    """Return what an engine may do from now on; the slots of engines that did not renew have lapsed.

    It is never given one that another holds: where its fair share is larger than what is left, it gets the
    rest once the others renew theirs. One with more in use than its fair share goes on holding those until
    their requests are over.

    Args:
        lasting: how long the slots are its own.
        lease: after which a probe that was not reported on is given up.
    """
    bound_idling(transaction.connection, IDLE_SECONDS)
    gate = gates.lock(transaction, destination)
    connection, now = transaction.connection, transaction.now
    rows = _shares(transaction, destination, engine, lasting)
    held: dict[str, int] = {row.engine: row.slots for row in rows}
    wants: dict[str, int] = {**{row.engine: row.wanted for row in rows}, engine: ask.wanted}
    after, admission = admit(gate, engine, ask, sum(wants.values()), now, settings, lease)
    gates.write(transaction, destination, gate, after, None)
    if after.prober == engine:
        # Beside requests that were begun before, and may hang for long.
        others = sum(slots for name, slots in held.items() if name != engine)
        usable = min(ask.in_use + admission.window, max(1, limited(settings, after.limits).window - others))
    else:
        fair = fair_shares(admission.window, wants)[engine]
        if ask.keeps and admission.to_begin is None and _are_plenty(admission.window, wants):
            fair = max(fair, 1)
        usable = min(fair, may_take(admission.window, held, engine))
    window = after.window
    granted = Granted(
        usable,
        admission.to_begin,
        after.prober == engine,
        admission == SHUT,
        is_rising=window is not None and window.size < window.ramp_to,
    )
    if not (usable or ask.in_use or ask.wanted):
        _give_back(transaction, destination, engine)
        return granted
    values = {"slots": max(usable, ask.in_use), "wanted": ask.wanted, "until": now + lasting}
    connection.execute(
        insert_on(connection, gate_share)
        .values(destination=destination, engine=engine, **values)
        .on_conflict_do_update(index_elements=[gate_share.c.destination, gate_share.c.engine], set_=values)
    )
    return granted


def _are_plenty(window: int, wants: Mapping[str, int]) -> bool:
    """Tell whether there are slots for which no engine has a use, and two for each engine."""
    return sum(wants.values()) < window >= 2 * len(wants)


def _shares(transaction: Transaction, destination: str, engine: str, lasting: timedelta) -> Sequence[Any]:
    """Return the slots that engines hold, without those that have lapsed.

    Where the one that asks finds its own lapsed it was held up, and others may have been with it, as while
    the database was away: they are given as long again to say what they have in progress.

    Where a clock was set back, those of a dead engine lapse no later for it. Moments of two transactions
    that wait for the gate lie less than `lasting` apart.
    """
    connection, now = transaction.connection, transaction.now
    here = gate_share.c.destination == destination
    rows = connection.execute(select(gate_share).where(here)).all()
    if any(row.until > now + 2 * lasting for row in rows):
        from_before = here & (gate_share.c.until > now + 2 * lasting)
        connection.execute(update(gate_share).where(from_before).values(until=now + lasting))
    if any(row.engine == engine and row.until <= now for row in rows):
        lapsed = here & (gate_share.c.until <= now)
        connection.execute(update(gate_share).where(lapsed).values(until=now + lasting))
        return rows
    connection.execute(delete(gate_share).where(here, gate_share.c.until <= now))
    return [row for row in rows if row.until > now]


def give_back_all(transaction: Transaction, engine: str) -> None:
    """Give back an engine's slots of all destinations, and the probes that it was to make."""
    transaction.connection.execute(delete(gate_share).where(gate_share.c.engine == engine))
    gates.leave_probes(transaction, engine)


def _give_back(transaction: Transaction, destination: str, engine: str) -> None:
    transaction.connection.execute(
        delete(gate_share).where(gate_share.c.engine == engine, gate_share.c.destination == destination)
    )
