"""`enqueue`, `show` and `cancel`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from config import load, load_settings
from orderflow_outbox import PREDEFINED, enqueue
from worker.by_hand import NotPossible, cancel
from worker.personal_data import PersonalData
from worker.personal_views import masked_life
from worker.store import finding
from worker.store.transactions import Store

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


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("enqueue")(enqueue_command)
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


def show_command(
    message_id: Id,
    payload: Annotated[bool, typer.Option("--payload", help="Print document and replies too.")] = False,
    unmasked: Annotated[bool, typer.Option("--unmasked", help="Show what is known of a person.")] = False,
    json: output.Json = False,
) -> None:
    """Tell a message's whole life."""
    personal = PersonalData(load_settings().personal_data.fields)
    with opened_store() as store, store.reading() as transaction:
        life = finding.life_of(transaction, message_id)
    if life is None:
        raise NotPossible(f"there is no message {message_id}")
    if personal and not unmasked:
        life = masked_life(life, personal)
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
