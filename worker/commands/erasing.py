"""`erase`: taking what is known of one customer out of all that is kept."""

from __future__ import annotations

from typing import Annotated

import typer

from config import load_settings
from orderflow_outbox.terms import KEY
from worker.erase import (
    REFERENCE,
    Asked,
    erase,
    erase_elsewhere,
    erase_from_index,
    found,
    note_erasure,
    obstacle,
    values_known,
    without,
)
from worker.personal_data import PersonalData
from worker.store.transactions import Store

from . import output
from .acting import act_on_each, report
from .arguments import By, UsageProblem, Why, checked_why, opened_store

References = Annotated[
    list[str] | None, typer.Option("--reference", help="An externalReference; may be given several times.")
]
Keys = Annotated[list[str] | None, typer.Option("--key", help="A key, such as order:SO-1001.")]
Terms = Annotated[
    list[str] | None, typer.Option("--term", help="A search term, NAME=VALUE, such as orderNumber=SO-1001.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell which messages it would be.")]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("erase")(erase_command)


def erase_command(
    reference: References = None,
    key: Keys = None,
    term: Terms = None,
    dry_run: DryRun = False,
    *,
    by: By,
    why: Why,
    json: output.Json = False,
) -> int:
    """Erase what one customer's messages said and were answered; who did what, and when, stays.

    Messages that have not ended are named and left: run it again once they have.
    """
    note = checked_why(why)
    asked = _asked(reference, key, term)
    personal = PersonalData(load_settings().personal_data.fields)
    with opened_store() as store:
        ids = found(store, asked)
        if dry_run:
            return _tell_only(store, ids, json)
        known = values_known(store, ids, personal)
        told, values = asked.for_the_audit(personal, known), known | asked.values
        note = without(note, values)
        elsewhere = erase_elsewhere(store, values)

        def erased(message_id: int) -> int | None:
            return message_id if erase(store, message_id, told, personal, by, note) else None

        done, refused = act_on_each(ids, erased)
        changed = [each for each in done if each is not None]
        if changed or refused or elsewhere:
            note_erasure(store, told, by, note, len(changed), len(refused))
        if done:  # before, too: that run may have been cut short
            erase_from_index(store)
    if not json and len(changed) < len(done):
        output.console.print(f"erased before: {len(done) - len(changed)}")
    return report("erased", changed, refused, json)


def _asked(references: list[str] | None, keys: list[str] | None, terms: list[str] | None) -> Asked:
    asked = [(REFERENCE, each) for each in references or ()] + [(KEY, each) for each in keys or ()]
    for pair in terms or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageProblem(f"--term is {pair!r}: write it as NAME=VALUE")
        asked.append((name, value))
    if not all(value.strip() for _, value in asked):
        raise UsageProblem("an empty value finds nobody: say whom to erase")
    if not asked:
        raise UsageProblem("say whose messages: give --reference, --key or --term")
    return Asked(asked)


def _tell_only(store: Store, ids: list[int], json: bool) -> int:
    would, refused = [], []
    for message_id in ids:
        with store.reading() as transaction:
            reason = obstacle(transaction, message_id)
        if reason is None:
            would.append(message_id)
        else:
            refused.append(reason)
    return report("would_erase" if json else "would be erased", would, refused, json)
