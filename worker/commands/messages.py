"""`enqueue`, `status`, `show` and `cancel`."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from config import in_words, load
from orderflow_outbox import PREDEFINED, State, enqueue
from worker.replay import NotPossible, cancel
from worker.store import finding, standing
from worker.store.transactions import Store, Transaction

from . import output
from .acting import act_on_each, report
from .arguments import (
    By,
    DestinationOption,
    Id,
    Ids,
    OperationOption,
    ReasonOption,
    SinceOption,
    UsageProblem,
    Why,
    checked_why,
    filter_of,
    moment_of,
    opened_store,
    pairs,
)
from .life import life_json, print_life

_FINISHED = (State.DELIVERED, State.DEAD, State.SUPERSEDED, State.CANCELLED)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("enqueue")(enqueue_command)
    app.command("status")(status_command)
    app.command("show")(show_command)
    app.command("cancel")(cancel_command)


def enqueue_command(
    operation: Annotated[
        str,
        typer.Argument(help=f"One of {', '.join(sorted(PREDEFINED))}, or one of the file of operations."),
    ],
    file: Annotated[str | None, typer.Argument(help="The XML document; - reads standard input.")] = None,
    destination: Annotated[str, typer.Option(help="Which OrderFlow.")] = "main",
    channel: Annotated[str | None, typer.Option(help="The channel.")] = None,
    organisation: Annotated[str | None, typer.Option(help="The organisation.")] = None,
    key: Annotated[str | None, typer.Option(help="The entity, such as order:SO-1001.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="Names this message for good.")] = None,
    version: Annotated[int | None, typer.Option(help="Version of the entity.")] = None,
    query: Annotated[list[str] | None, typer.Option(help="A query parameter, NAME=VALUE.")] = None,
    header: Annotated[list[str] | None, typer.Option(help="A request header, NAME=VALUE.")] = None,
    deliver_after: Annotated[str | None, typer.Option(help="Not before, as 2026-11-01T09:30.")] = None,
    expires_at: Annotated[str | None, typer.Option(help="Not after, as 2026-11-01T09:30.")] = None,
    json: output.Json = False,
) -> None:
    """Store one message for delivery."""
    configuration = load(need_secrets=False)
    if destination not in configuration.destinations:
        known = ", ".join(sorted(configuration.destinations))
        raise UsageProblem(f"--destination is {destination!r}: choose one of {known}")
    with opened_store() as store, store.writing() as transaction:
        message = enqueue(
            transaction.connection,
            operation,
            _payload(file),
            destination=destination,
            channel=channel,
            organisation=organisation,
            key=key,
            idempotency_key=idempotency_key,
            version=version,
            query=pairs("--query", query),
            headers=pairs("--header", header),
            deliver_after=None if deliver_after is None else moment_of("--deliver-after", deliver_after),
            expires_at=None if expires_at is None else moment_of("--expires-at", expires_at),
            catalogue=configuration.catalogue,
        )
    if json:
        output.print_json({"id": message.id, "state": message.state, "created": message.created})
    elif message.created:
        output.console.print(f"message {message.id} is stored")
    else:
        output.console.print(f"message {message.id} was stored before: same key, same content")


def status_command(
    totals: Annotated[
        bool, typer.Option("--totals", help="Count the finished too, which reads every message there is.")
    ] = False,
    json: output.Json = False,
) -> None:
    """Show how many messages wait and how many dead letters are open, the gates, and the open incidents."""
    with opened_store() as store, store.reading() as transaction:
        rows = _status_rows(transaction, totals)
        incidents = finding.open_incidents(transaction)
    if json:
        output.print_json({"destinations": rows, "incidents": [output.as_json(row) for row in incidents]})
        return
    columns = ["pending", "due", "parked", "sending", "open_letters", *(_FINISHED if totals else ())]
    shown = output.table("destination", "gate", *(each.replace("_", " ") for each in columns), "oldest due")
    for row in rows:
        seconds = row["oldest_due_seconds"]
        oldest = "–" if seconds is None else in_words(timedelta(seconds=round(seconds)))
        numbers = (str(row[column]) for column in columns)
        shown.add_row(output.plain(row["destination"]), output.state(row["gate"]), *numbers, oldest)
    output.console.print(shown if rows else "nothing waits, and no dead letter is open")
    for incident in incidents:
        what = f"{incident['destination']} {incident['operation']} {incident['reason']}"
        line = f"incident {incident['id']}: {what}, {incident['occurrences']} ×, since"
        output.console.print(output.plain(f"{line} {output.moment(incident['opened_at'])} UTC"))


def _status_rows(transaction: Transaction, with_totals: bool) -> list[dict[str, Any]]:
    gates = standing.gates(transaction)
    stands = standing.standing(transaction)
    totals = standing.totals(transaction) if with_totals else {}
    rows = []
    for name in sorted({*gates, *stands, *totals}):
        now, gate = stands.get(name, standing.Standing()), gates.get(name)
        oldest, finished = now.oldest_due_at, totals.get(name, {})
        rows.append(
            {
                "destination": name,
                "pending": now.pending,
                "due": now.due,
                "parked": now.parked,
                "sending": now.sending,
                "open_letters": now.open_letters,
                **({each.value: finished.get(each, 0) for each in _FINISHED} if with_totals else {}),
                "oldest_due_seconds": None if oldest is None else (transaction.now - oldest).total_seconds(),
                "gate": "open" if gate is None else gate["state"],
                "gate_reason": None if gate is None else gate["reason"],
            }
        )
    return rows


def show_command(
    message_id: Id,
    payload: Annotated[bool, typer.Option("--payload", help="Print document and replies too.")] = False,
    json: output.Json = False,
) -> None:
    """Tell a message's whole life."""
    with opened_store() as store, store.reading() as transaction:
        life = finding.life_of(transaction, message_id)
    if life is None:
        raise NotPossible(f"there is no message {message_id}")
    if json:
        output.print_json(life_json(life))
    else:
        print_life(life, payload)


def cancel_command(
    ids: Ids = None,
    destination: DestinationOption = None,
    operation: OperationOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    *,
    by: By,
    why: Why,
    json: output.Json = False,
) -> int:
    """Cancel messages that still wait, by number or by filter; the reason is that of the last attempt."""
    wanted = filter_of(ids, destination, operation, reason, since)
    if wanted.is_empty:
        raise UsageProblem("name messages by number, or give --destination, --operation, --reason or --since")
    note = checked_why(why)

    def cancelled(store: Store, message_id: int) -> int:
        cancel(store, message_id, by, note)
        return message_id

    with opened_store() as store:
        if ids and not any((destination, operation, reason, since)):
            chosen = list(ids)
        else:
            with store.reading() as transaction:
                chosen = finding.pending_ids(transaction, wanted)
        done, refused = act_on_each(chosen, lambda message_id: cancelled(store, message_id))
    return report("cancelled", done, refused, json)


def _payload(file: str | None) -> bytes | None:
    if file is None:
        return None
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UsageProblem(f"{file} cannot be read: {error.strerror}") from None
