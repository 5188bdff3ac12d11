"""`config check` and `db upgrade`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from config import Configuration, in_words, load, load_settings, shadowing
from orderflow_outbox.tables import CURRENT_VERSION
from worker import schema
from worker.database import connect
from worker.durability import durability_warnings
from worker.schemas import Schemas
from worker.store import text_index
from worker.store.transactions import Store
from worker.web.listening import check_certificate

from . import output


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    config = typer.Typer(help="Look at the configuration.", no_args_is_help=True)
    config.command("check")(check_command)
    app.add_typer(config, name="config")
    db = typer.Typer(help="Look after the tables.", no_args_is_help=True)
    db.command("upgrade")(upgrade_command)
    app.add_typer(db, name="db")


def check_command(
    file: Annotated[
        Path | None, typer.Argument(help="The settings file; by default config/outbox.toml.")
    ] = None,
    json: output.Json = False,
) -> None:
    """Read the configuration, say when a person would be called, and warn of a database that may lose."""
    configuration = load(file)
    Schemas(configuration.schemas)  # refuses what is none
    check_certificate(configuration.settings.web)
    rows = _patience(configuration)
    warnings = [
        *(
            f"rule {name} of your file fits every answer: the interface's rules are never asked"
            for name in shadowing(configuration.rules)
        ),
        *durability_warnings(configuration.settings),
    ]
    if json:
        told = {"ok": True, "file": str(configuration.file), "patience": rows, "warnings": warnings}
        output.print_json(told)
        return
    files = f"{configuration.file} and {configuration.destinations_file}"
    output.console.print(output.plain(f"{files} are in order"))
    for warning in warnings:
        output.console.print(output.warning(warning))
    shown = output.table("destination", "operation", "tries", "last try after", "a person is called after")
    for row in rows:
        shown.add_row(
            row["destination"],
            row["operation"],
            str(row["tries"]),
            row["last_try_after"],
            row["called_after"],
        )
    output.console.print(shown)


def _patience(configuration: Configuration) -> list[dict[str, Any]]:
    """Return, per destination and operation, when tries end and a person is called."""
    grouping = configuration.settings.alerts.grouping
    rows = []
    for name, destination in sorted(configuration.destinations.items()):
        own = sorted(destination.operations)
        for operation in [*own, f"the other {len(configuration.catalogue) - len(own)}"]:
            policy = destination.retry_policy(operation)
            last = policy.last_try_after
            rows.append(
                {
                    "destination": name,
                    "operation": operation,
                    "tries": policy.tries,
                    "last_try_after": in_words(last) if last else "at once",
                    "called_after": in_words(last + grouping),
                    "called_after_seconds": (last + grouping).total_seconds(),
                }
            )
    return rows


def upgrade_command(json: output.Json = False) -> None:
    """Make the tables, or bring them up to this release."""
    engine = connect(load_settings().database_address())
    try:
        before = schema.upgrade(engine)
        with Store(engine).reading() as transaction:
            fix = None if text_index.is_there(transaction) else text_index.fix_on(transaction)
    finally:
        engine.dispose()
    if json:
        output.print_json({"before": before, "now": CURRENT_VERSION, "searches_texts": fix is None})
    elif before == CURRENT_VERSION:
        output.console.print(f"the tables are of version {CURRENT_VERSION} already")
    else:
        output.console.print(f"the tables are of version {CURRENT_VERSION} now")
    if fix is not None and not json:
        output.console.print(output.warning(f"messages are not found by text: {fix}"))
