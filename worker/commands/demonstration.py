"""`demo`: the main job, shown in a temporary folder."""

from __future__ import annotations

import signal
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from worker import demo
from worker.demo.stage import StageFailed

from . import output
from .running import RunFailed


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("demo")(demo_command)


def demo_command(
    orders: Annotated[int, typer.Option(help="How many orders the shop takes.", min=20, max=5000)] = 60,
    json: output.Json = False,
) -> int:
    """Show the main job: orders travel past faults, some die, an alert is sent, one is replayed."""
    console = Console(stderr=True, highlight=False) if json else output.console
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # ends as Ctrl-C does: everything is cleared away
    try:
        summary, alert = demo.run(orders, console)
    except (demo.DemoFailed, StageFailed) as error:
        raise RunFailed(str(error)) from None
    if json:
        output.print_json(asdict(summary))
    else:
        demo.print_summary(summary, alert, console)
    return 1 if summary.lost or summary.duplicates_at_receiver else 0
