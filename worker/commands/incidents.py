"""`incidents`, `incidents ack` and `alerts test`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from config import load, load_settings
from worker.acknowledging import acknowledge
from worker.alerts import try_hooks
from worker.hooks.running import label_of
from worker.personal_data import PersonalData
from worker.personal_views import masked_incidents
from worker.severities import severity_of
from worker.store import finding
from worker.telling import trial_document

from . import output
from .arguments import LARGEST_ID, By, Why, checked_why, opened_store

IncidentId = Annotated[
    int, typer.Argument(metavar="ID", help="The incident's number.", min=1, max=LARGEST_ID)
]
SHOWN = (
    "id",
    "cause",
    "destination",
    "operation",
    "reason",
    "text",
    "occurrences",
    "opened_at",
    "updated_at",
    "oldest_at",
    "sample_message_id",
    "alerts_sent",
    "last_alert_at",
    "last_alert_error",
    "acknowledged_at",
    "acknowledged_by",
)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    incidents = typer.Typer(help="Look at open incidents, acknowledge them.", invoke_without_command=True)
    incidents.callback()(list_command)
    incidents.command("ack")(ack_command)
    app.add_typer(incidents, name="incidents")
    alerts = typer.Typer(help="Try whom alerts reach.", no_args_is_help=True)
    alerts.command("test")(try_command)
    app.add_typer(alerts, name="alerts")


def list_command(context: typer.Context, json: output.Json = False) -> None:
    """List the open incidents, the newest first."""
    if context.invoked_subcommand is not None:
        return
    with opened_store() as store, store.reading() as transaction:
        personal = PersonalData(load_settings().personal_data.fields)
        rows = masked_incidents(transaction, finding.open_incidents(transaction), personal)
    if json:
        output.print_json(
            [{"severity": severity_of(row["cause"]), **{name: row[name] for name in SHOWN}} for row in rows]
        )
        return
    if not rows:
        output.console.print("no incident is open")
        return
    columns = ("id", "severity", "cause", "destination", "operation", "reason", "count", "opened (UTC)")
    shown = output.table(*columns, "last alert (UTC)", "acknowledged by", "text")
    for row in rows:
        told = "not yet" if row["last_alert_at"] is None else output.moment(row["last_alert_at"])
        shown.add_row(
            str(row["id"]),
            severity_of(row["cause"]),
            *(output.plain(row[name] or None) for name in ("cause", "destination", "operation", "reason")),
            str(row["occurrences"]),
            output.moment(row["opened_at"]),
            told if row["last_alert_error"] is None else f"{told}, a hook failed",
            output.plain(row["acknowledged_by"]),
            output.plain(row["text"]),
        )
    output.console.print(shown)


def ack_command(incident_id: IncidentId, *, by: By, why: Why, json: output.Json = False) -> None:
    """Take note of an incident: no more reminders of it, until it is over or twice as bad."""
    note = checked_why(why)
    with opened_store() as store:
        acknowledge(store, incident_id, by, note)
    if json:
        output.print_json({"incident": incident_id, "acknowledged_by": by})
    else:
        output.console.print(output.plain(f"incident {incident_id} is acknowledged by {by}"))


def try_command(json: output.Json = False) -> int:
    """Send a test alert by every hook, and say of each whether it took it."""
    settings = load(need_secrets=False).settings.alerts
    answers = try_hooks(settings, trial_document(datetime.now(UTC)))
    told = [
        {"hook": n, "kind": hook.kind, "name": label_of(hook), "error": error}
        for n, (hook, error) in enumerate(zip(settings.hooks, answers, strict=True))
    ]
    if json:
        output.print_json(told)
    elif not told:
        output.console.print("no hook is configured: alerts are lines in the worker's log")
    else:
        for each in told:
            how = "took it" if each["error"] is None else f"failed: {each['error']}"
            output.console.print(output.plain(f"hook {each['hook']}, {each['name']}: {how}"))
    return 1 if any(answers) else 0
