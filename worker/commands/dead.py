"""`dead list`, `dead show`, `dead replay` and `dead discard`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from config import load
from orderflow_outbox import State
from worker.replay import Replayed, discard, replay
from worker.store import finding
from worker.store.finding import Filter, Row
from worker.store.transactions import Store

from . import output
from .acting import act_on_each, report
from .arguments import (
    By,
    DestinationOption,
    Ids,
    OperationOption,
    ReasonOption,
    SinceOption,
    UsageProblem,
    Why,
    checked_why,
    filter_of,
    opened_store,
)
from .messages import show_command

All = Annotated[bool, typer.Option("--all", help="Every open dead letter.")]
Force = Annotated[
    bool, typer.Option("--force", help="Obsolete ones too, each sent as the latest of its key.")
]
Limit = Annotated[int, typer.Option(help="How many at most.", min=1)]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(help="Look at dead letters, replay or discard them.", no_args_is_help=True)
    group.command("list")(list_command)
    group.command("show")(show_command)
    group.command("replay")(replay_command)
    group.command("discard")(discard_command)
    app.add_typer(group, name="dead")


def list_command(
    destination: DestinationOption = None,
    operation: OperationOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    limit: Limit = 100,
    json: output.Json = False,
) -> None:
    """List open dead letters, the newest death first."""
    wanted = filter_of(None, destination, operation, reason, since)
    with opened_store() as store, store.reading() as transaction:
        letters = finding.dead_letters(transaction, wanted, limit + 1)
    more = len(letters) > limit
    if json:
        output.print_json([output.as_json(row) for row in letters[:limit]])
        return
    if not letters:
        output.console.print("no open dead letter")
        return
    for row in letters[:limit]:
        output.console.print(_headline(row))
        output.console.print(output.plain(f"    {row['text']}"))
    if more:
        output.console.print(f"… and more: raise --limit above {limit}")


def _headline(row: Row) -> Text:
    headline = Text(f"{row['message_id']}", style="bold")
    headline.append(f"  {output.moment(row['died_at'])} UTC  ", style="dim")
    headline.append_text(output.plain(f"{row['operation']} to {row['destination']}  {row['key'] or ''}  "))
    headline.append(row["reason"], style="red")
    return headline.append("  in doubt" if row["in_doubt"] else "", style="yellow")


def replay_command(
    ids: Ids = None,
    destination: DestinationOption = None,
    operation: OperationOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    every: All = False,
    force: Force = False,
    *,
    by: By,
    why: Why,
    json: output.Json = False,
) -> int:
    """Send dead messages again, each as a new message linked to the old one."""
    wanted = filter_of(ids, destination, operation, reason, since)
    note = checked_why(why)
    catalogue = load(need_secrets=False).catalogue

    def replayed(message_id: int) -> Replayed:
        return replay(store, message_id, by, note, catalogue=catalogue, force=force)

    with opened_store() as store:
        chosen = _chosen(store, wanted, every)
        done, refused = act_on_each(chosen, replayed)
    links = [
        {"message": each.origin, "replay": each.replay, "created": each.created, "state": each.state}
        for each in done
    ]
    if json:
        return report("replayed", links, refused, json)
    for each in done:
        output.console.print(f"message {each.origin} {_fate(each)}")
    return report("replayed", [each for each in done if each.created], refused, json)


def _fate(replayed: Replayed) -> str:
    if replayed.created:
        return f"is replayed as message {replayed.replay}"
    hint = f": replay {replayed.replay}" if replayed.state == State.DEAD else ""
    return f"was replayed before, as message {replayed.replay}, which is {replayed.state}{hint}"


def discard_command(
    ids: Ids = None,
    destination: DestinationOption = None,
    operation: OperationOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    every: All = False,
    *,
    by: By,
    why: Why,
    json: output.Json = False,
) -> int:
    """Close dead letters without sending them."""
    wanted = filter_of(ids, destination, operation, reason, since)
    note = checked_why(why)

    def discarded(store: Store, message_id: int) -> int:
        discard(store, message_id, by, note)
        return message_id

    with opened_store() as store:
        chosen = _chosen(store, wanted, every)
        done, refused = act_on_each(chosen, lambda message_id: discarded(store, message_id))
    return report("discarded", done, refused, json)


def _chosen(store: Store, wanted: Filter, every: bool) -> list[int]:
    """Return the messages meant: those named, whatever their state, or those the filter finds."""
    if wanted.is_empty and not every:
        raise UsageProblem(
            "name messages by number, or give --destination, --operation, --reason, --since or --all"
        )
    others = (wanted.destination, wanted.operation, wanted.reason, wanted.since)
    if wanted.ids and not any(others):
        return list(wanted.ids)
    with store.reading() as transaction:
        return sorted(row["message_id"] for row in finding.dead_letters(transaction, wanted))
