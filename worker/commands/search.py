"""`search`: the transaction log, searched by one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.text import Text

from config import load, load_settings
from worker.personal_data import PersonalData
from worker.search.finding import NO_TEXTS, Hit, Results, find
from worker.search.language import LARGEST_ID, NAMES, parse
from worker.search.reproducing import NotReproducible, command_of
from worker.search.spreadsheets import write_csv
from worker.search.texts import Excerpt
from worker.store.searching import MOST
from worker.store.transactions import Store

from . import output
from .arguments import UsageProblem, opened_store

LIMIT = 20
WHAT = (
    'What to look for: a number, a key, the number of an order, a piece of "text", or '
    + ", ".join(f"{each}:" for each in NAMES)
    + " followed by a value. A - in front: it must not be so."
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    # A line may begin with a condition that must not hold, which is no option.
    app.command("search", context_settings={"ignore_unknown_options": True})(search_command)


def search_command(
    line: Annotated[str, typer.Argument(metavar="LINE", help=WHAT)] = "",
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="How many messages at most.")] = LIMIT,
    before: Annotated[
        int,
        typer.Option(min=1, max=LARGEST_ID, help="Only messages with a lower number.", show_default=False),
    ] = LARGEST_ID,
    json: output.Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV for spreadsheets.")] = False,
    curl: Annotated[
        bool, typer.Option("--curl", help="Print commands that make the requests again, without a password.")
    ] = False,
    unmasked: Annotated[bool, typer.Option("--unmasked", help="Show what is known of a person.")] = False,
) -> None:
    """Find messages, the latest first, by what they are, what became of them, and what was said."""
    if json + as_csv + curl > 1:
        raise UsageProblem("--json, --csv and --curl are one or the other: give one of them")
    query = parse(line)
    settings = load_settings()
    personal = PersonalData(() if unmasked else settings.personal_data.fields)
    if curl and personal:
        raise UsageProblem("--curl shows documents as they were sent: give --unmasked too")
    with opened_store() as store:
        results = find(store, query, limit, before, personal=personal)
        if json:
            output.print_json(_as_json(results))
        elif as_csv:
            write_csv(sys.stdout, results.hits)
        elif curl:
            _print_curl(store, results.hits)
        else:
            _print_table(results.hits)
    for each in _told(results, settings.search.texts):
        output.progress.print(output.plain(each))


def _told(results: Results, with_texts: bool) -> list[str]:
    """Return what a person should know of a search, beside what it found."""
    number = len(results.hits)
    told = [f"{number or 'no'} message{'s' * (number != 1)} found in {1000 * results.seconds:.0f} ms"]
    if results.out_of_time:
        told.append(
            f"it took too long, and nothing below message {results.before} was searched: "
            f"go on there with --before {results.before}, or ask for more that must hold, such as after:7d"
        )
    elif results.before is not None:
        told.append(f"there may be more: --before {results.before}")
    if results.is_by_text and not with_texts:
        told.append(NO_TEXTS)
    behind = results.lag
    if behind.messages or behind.texts:
        told.append(f"not to be found yet: {behind.messages} messages by their terms, {behind.texts} texts")
    return told


def _print_table(hits: Sequence[Hit]) -> None:
    if not hits:
        return
    with_text = any(each.excerpt for each in hits)
    columns = (
        "message",
        "enqueued",
        "operation",
        "destination",
        "key",
        "state",
        "verdict",
        "reason",
        "status",
    )
    shown = output.table(*columns, *(["text"] * with_text))
    for each in hits:
        row = each.row
        shown.add_row(
            str(row["id"]),
            output.moment(row["created_at"]),
            *(output.cell(row[name]) for name in ("operation", "destination", "key")),
            output.state(row["state"]),
            *(output.cell(row[name]) for name in ("verdict", "reason", "status")),
            *([_marked(each.excerpt)] * with_text),
        )
    output.console.print(shown)


def _marked(excerpt: Excerpt | None) -> Text:
    """Return an excerpt in which the match stands out, in a pipe too."""
    if excerpt is None:
        return output.plain(None)
    place = f"reply {excerpt.n}: " if excerpt.n else "request: "
    match = output.plain(f"»{excerpt.match}«")
    match.stylize("bold reverse")
    return Text.assemble(output.plain(place + excerpt.before), match, output.plain(excerpt.after))


def _as_json(results: Results) -> dict[str, Any]:
    return {
        "messages": [
            {**output.as_json(each.row), "excerpt": _excerpt_json(each.excerpt)} for each in results.hits
        ],
        "before": results.before,
        "out_of_time": results.out_of_time,
        "waiting": {"messages": results.lag.messages, "texts": results.lag.texts},
    }


def _excerpt_json(excerpt: Excerpt | None) -> dict[str, Any] | None:
    if excerpt is None:
        return None
    return {"attempt": excerpt.n, "before": excerpt.before, "match": excerpt.match, "after": excerpt.after}


def _print_curl(store: Store, hits: Sequence[Hit]) -> None:
    configuration = load(need_secrets=False)
    for each in hits:
        with store.reading() as transaction:
            try:
                sys.stdout.write(f"{command_of(transaction, each.row['id'], configuration)}\n")
            except NotReproducible as problem:
                output.progress.print(output.plain(str(problem)))
