"""The gates of destinations: read, locked and written; what changes at one is told by an incident."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import RowMapping, select, update

from config import Rate
from orderflow_outbox.dialects import insert_on
from orderflow_outbox.states import HELD
from orderflow_outbox.tables import gate, message
from worker.breaker import Breaker, BreakerState
from worker.gate import OPEN, Gate, resumed
from worker.limits import Limits
from worker.rate import Bucket
from worker.throttle import Answers, Window
from worker.verdicts import Why

from .causes import (
    BREAKER_OPEN,
    DESTINATION_HELD,
    NO_OPERATION,
    AlertTimes,
    note_incident,
    resolve_incidents,
)
from .claiming import is_due
from .transactions import Transaction

_RULE = "gate"

log = logging.getLogger(__name__)


def read(transaction: Transaction, destinations: Collection[str]) -> dict[str, Gate]:
    """Return the gates of destinations as they are, by name; a new one where there is none."""
    rows = transaction.connection.execute(select(gate).where(gate.c.destination.in_(destinations))).mappings()
    known = {row["destination"]: _gate_of(row) for row in rows}
    return {name: known.get(name, Gate()) for name in destinations}


def lock(transaction: Transaction, destination: str) -> Gate:
    """Return a destination's gate, locked until the transaction ends; it is made where there is none."""
    connection = transaction.connection
    connection.execute(
        insert_on(connection, gate)
        .values(destination=destination, **_values(Gate()))
        .on_conflict_do_nothing(index_elements=[gate.c.destination])
    )
    found = connection.execute(select(gate).where(gate.c.destination == destination).with_for_update())
    return _gate_of(found.mappings().one())


def write(
    transaction: Transaction, destination: str, before: Gate, after: Gate, alert_times: AlertTimes | None
) -> None:
    """Write a gate that is locked, and have an incident tell of what has changed at it.

    Args:
        alert_times: when the alert is due; None opens no incident, as when a person holds it.
    """
    if after == before:
        return
    known, values = _values(before), _values(after)
    changed: dict[str, Any] = {name: value for name, value in values.items() if value != known[name]}
    if (before.state, before.changed_by) != (after.state, after.changed_by):
        changed["changed_at"] = transaction.now
    if changed:
        transaction.connection.execute(update(gate).where(gate.c.destination == destination).values(changed))
    _tell(transaction, destination, before, after, alert_times)


def hold(
    transaction: Transaction, destination: str, why: Why, by: str, alert_times: AlertTimes | None
) -> None:
    """Hold a destination: nothing is claimed for it until it is resumed.

    Args:
        alert_times: when the alert is due; None opens no incident, as when a person holds it.
    """
    before = lock(transaction, destination)
    write(transaction, destination, before, replace(before, state=HELD, changed_by=by, why=why), alert_times)


def limit(transaction: Transaction, destination: str, limits: Limits) -> Limits:
    """Set the limits of a destination by hand; return those it had before."""
    before = lock(transaction, destination)
    write(transaction, destination, before, replace(before, limits=limits), None)
    return before.limits


def resume(transaction: Transaction, destination: str, by: str) -> Gate:
    """Open a destination's gate, for a probe first where its breaker is open; return the gate before.

    What had been put off until the next probe is due with this one.
    """
    before = lock(transaction, destination)
    write(transaction, destination, before, resumed(before, by, transaction.now), None)
    if not before.breaker.is_closed:
        transaction.connection.execute(
            update(message)
            .where(message.c.destination == destination, is_due, message.c.due_at == before.breaker.probe_at)
            .values(due_at=transaction.now)
        )
    return before


def leave_probes(transaction: Transaction, engine: str) -> None:
    """Leave the probes that an engine was to make to the others, at once."""
    transaction.connection.execute(
        update(gate)
        .where(gate.c.prober == engine, gate.c.breaker == BreakerState.PROBING.value)
        .values(breaker=BreakerState.OPEN.value, probe_at=transaction.now, prober=None)
    )


def _tell(
    transaction: Transaction, destination: str, before: Gate, after: Gate, alert_times: AlertTimes | None
) -> None:
    if after.is_held and not before.is_held:
        _note(transaction, DESTINATION_HELD, destination, after, alert_times)
    elif before.is_held and not after.is_held:
        resolve_incidents(transaction, DESTINATION_HELD, destination)
    if after.breaker.is_closed and not before.breaker.is_closed:
        resolve_incidents(transaction, BREAKER_OPEN, destination)
        log.warning("destination %s answers again: its breaker is closed", destination)
    elif before.breaker.is_closed and not after.breaker.is_closed and not after.is_held:
        _note(transaction, BREAKER_OPEN, destination, after, alert_times)


def _note(
    transaction: Transaction, cause: str, destination: str, after: Gate, alert_times: AlertTimes | None
) -> None:
    what = "is held" if cause == DESTINATION_HELD else "is left alone but for probes: its breaker has opened"
    why = after.why
    if why is None or alert_times is None:
        return
    log.error("destination %s %s (%s): %s", destination, what, why.reason, why.text)
    note_incident(
        transaction,
        cause=cause,
        destination=destination,
        operation=NO_OPERATION,
        reason=why.reason,
        text=why.text,
        message_id=None,
        alert_times=alert_times,
    )


def _gate_of(row: RowMapping) -> Gate:
    return Gate(
        state=HELD if row["state"] == HELD else OPEN,
        changed_by=row["changed_by"],
        why=None if row["reason"] is None else Why(row["reason"], row["text"] or "", _RULE),
        refusals=row["refusals_in_a_row"],
        breaker=Breaker(
            state=BreakerState(row["breaker"]),
            failures=row["failures_in_a_row"],
            failed=tuple(row["failed_ids"] or ()),
            share=row["failure_share"],
            probes=row["failed_probes"],
            probe_at=row["probe_at"],
        ),
        prober=row["prober"],
        window=_window_of(row),
        bucket=None if row["rate_at"] is None else Bucket(row["rate_tokens"], row["rate_at"]),
        paused_until=row["paused_until"],
        limits=limits_of(row),
    )


def limits_of(row: Mapping[Any, Any]) -> Limits:
    """Return the limits that a person has set at a gate."""
    requests, seconds = row.get("limit_requests"), row.get("limit_seconds")
    rate = (
        None
        if requests is None or seconds is None
        else Rate(requests=requests, per=timedelta(seconds=seconds))
    )
    return Limits(row.get("limit_window"), rate)


def _window_of(row: RowMapping) -> Window | None:
    if row["window"] is None:
        return None
    return Window(
        size=row["window"],
        ramp_to=row["window_ramp_to"],
        since=row["window_since"],
        answers=Answers(row["window_answers"], row["window_seconds"]),
        best=row["best_seconds"],
        best_at=row["best_at"],
        patience=row["window_patience"],
    )


def _values(of: Gate) -> dict[str, Any]:
    window, bucket, rate = of.window, of.bucket, of.limits.rate
    return {
        "state": of.state,
        "changed_by": of.changed_by,
        "reason": None if of.why is None else of.why.reason,
        "text": None if of.why is None else of.why.text,
        "refusals_in_a_row": of.refusals,
        "breaker": of.breaker.state.value,
        "failures_in_a_row": of.breaker.failures,
        "failed_ids": list(of.breaker.failed),
        "failure_share": of.breaker.share,
        "failed_probes": of.breaker.probes,
        "probe_at": of.breaker.probe_at,
        "prober": of.prober,
        "window": window and window.size,
        "window_ramp_to": window and window.ramp_to,
        "window_since": window and window.since,
        "window_answers": window and window.answers.number,
        "window_seconds": window and window.answers.seconds,
        "window_patience": window and window.patience,
        "best_seconds": window and window.best,
        "best_at": window and window.best_at,
        "rate_tokens": bucket and bucket.tokens,
        "rate_at": bucket and bucket.at,
        "paused_until": of.paused_until,
        "limit_window": of.limits.window,
        "limit_requests": rate and rate.requests,
        "limit_seconds": rate and rate.per.total_seconds(),
    }
