"""`dead list`, `dead show`, `dead replay`, `dead edit` and `dead discard`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from config import load_settings
from worker.by_hand import discard
from worker.personal_data import PersonalData
from worker.personal_views import masked_groups, masked_letters
from worker.store import finding, surveying
from worker.store.finding import Filter, Row
from worker.store.transactions import Store

from . import output
from .acting import act_on_each, check_named, chosen_dead, report
from .arguments import (
    AllOption,
    By,
    DestinationOption,
    Ids,
    IncidentOption,
    OperationOption,
    ReasonOption,
    SinceOption,
    Why,
    checked_why,
    filter_of,
    opened_store,
)
from .editing import edit_command
from .messages import show_command
from .replaying import replay_command

Limit = Annotated[int, typer.Option(help="How many at most.", min=1)]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(help="Look at dead letters, replay or discard them.", no_args_is_help=True)
    group.command("list")(list_command)
    group.command("show")(show_command)
    group.command("replay")(replay_command)
    group.command("edit")(edit_command)
    group.command("discard")(discard_command)
    app.add_typer(group, name="dead")


def list_command(
    destination: DestinationOption = None,
    operation: OperationOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    incident: IncidentOption = None,
    groups: Annotated[bool, typer.Option("--groups", help="Count them by their cause.")] = False,
    limit: Limit = 100,
    json: output.Json = False,
) -> None:
    """List open dead letters, the newest death first."""
    wanted = filter_of(None, destination, operation, reason, since, incident)
    if groups:
        _list_groups(wanted, json)
        return
    with opened_store() as store, store.reading() as transaction:
        letters = masked_letters(
            transaction,
            finding.dead_letters(transaction, wanted, limit + 1),
            PersonalData(load_settings().personal_data.fields),
        )
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


def _list_groups(wanted: Filter, json: bool) -> None:
    personal = PersonalData(load_settings().personal_data.fields)
    with opened_store() as store, store.reading() as transaction:
        found = masked_groups(transaction, surveying.groups(transaction, wanted), personal)
    if json:
        output.print_json([asdict(group) for group in found])
        return
    if not found:
        output.console.print("no open dead letter")
        return
    columns = ("letters", "in doubt", "destination", "operation", "reason", "oldest (UTC)", "newest (UTC)")
    shown = output.table(*columns, "one of them", "text")
    for group in found:
        shown.add_row(
            str(group.number),
            str(group.in_doubt or ""),
            *(output.plain(each) for each in (group.destination, group.operation, group.reason)),
            output.moment(group.oldest),
            output.moment(group.newest),
            str(group.example),
            output.plain(group.text),
        )
    output.console.print(shown)


def _headline(row: Row) -> Text:
    headline = Text(f"{row['message_id']}", style="bold")
    headline.append(f"  {output.moment(row['died_at'])} UTC  ", style="dim")
    headline.append_text(output.plain(f"{row['operation']} to {row['destination']}  {row['key'] or ''}  "))
    headline.append(row["reason"], style="red")
    return headline.append("  in doubt" if row["in_doubt"] else "", style="yellow")


def discard_command(
    ids: Ids = None,
    destination: DestinationOption = None,
    operation: OperationOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    incident: IncidentOption = None,
    every: AllOption = False,
    *,
    by: By,
    why: Why,
    json: output.Json = False,
) -> int:
    """Close dead letters without sending them."""
    wanted = filter_of(ids, destination, operation, reason, since, incident)
    check_named(wanted, every)
    note = checked_why(why)

    def discarded(store: Store, message_id: int) -> int:
        discard(store, message_id, by, note)
        return message_id

    with opened_store() as store:
        chosen = chosen_dead(store, wanted)
        done, refused = act_on_each(chosen, lambda message_id: discarded(store, message_id))
    return report("discarded", done, refused, json)
