"""The command line: `python -m bench [FIGURE]…`."""

from __future__ import annotations

import json as json_text
import os
import signal
import sys
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import psycopg
import typer
from rich.console import Console

from orderflow_outbox.errors import OutboxError
from worker.commands import output

from . import enqueue, judging
from .claiming import FOLLOWERS
from .figures import Plan, take_claims, take_drain, take_enqueue, take_judging, take_latency, take_window
from .machine import machine
from .report import (
    claim_report,
    complaint,
    drain_report,
    enqueue_report,
    judge_report,
    latency_report,
    show,
    verdicts,
    window_report,
)
from .stage import BenchFailed, Stage, set_up
from .watching import Watch, watching
from .with_outbox import DEFAULT_WINDOW
from .with_plain_task import DEFAULT_PREFETCH

FAILED = 1
USAGE_ERROR = 2
PLAIN_MESSAGES = 3000

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Figure(StrEnum):
    """What can be measured."""

    DRAIN = "drain"
    LATENCY = "latency"
    ENQUEUE_POSTGRESQL = "enqueue-postgresql"
    ENQUEUE_SQLITE = "enqueue-sqlite"
    CLAIM_POSTGRESQL = "claim-postgresql"
    CLAIM_SQLITE = "claim-sqlite"
    JUDGE_1 = "judge-1"
    JUDGE_500 = "judge-500"
    WINDOW = "window"


def main(arguments: list[str]) -> int:
    """Run the command; return the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # ends as Ctrl-C does: everything is cleared away
    for name in [name for name in os.environ if name.startswith("OUTBOX_")]:
        del os.environ[name]  # the settings of whoever measures are not what is measured
    try:
        status = app(args=arguments, prog_name="python -m bench", standalone_mode=False)
    except typer.TyperException as error:
        return _say(f"{error} (python -m bench --help tells what there is)", USAGE_ERROR)
    except (BenchFailed, OutboxError, OSError, psycopg.Error) as error:
        return _say(" ".join(str(error).split()), FAILED)
    return status if isinstance(status, int) else 0


@app.command()
def bench(
    figures: Annotated[
        list[Figure] | None, typer.Argument(metavar="[FIGURE]…", help=f"{', '.join(Figure)}; by default all.")
    ] = None,
    messages: Annotated[int, typer.Option(min=1, help="Messages that wait when `drain` begins.")] = 20_000,
    plain_messages: Annotated[
        int | None, typer.Option(min=1, help="The same for the plain task; by default 3000 at most.")
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Rounds of each contestant, taken in turn, of drain and latency.")
    ] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each round of `latency` takes.")] = 15.0,
    transactions: Annotated[
        int, typer.Option(min=1, help="Transactions of each kind of `enqueue`, in rounds of some dozen.")
    ] = 2400,
    followers: Annotated[
        int, typer.Option(min=1, help="Messages parked while `claim` claims others.")
    ] = FOLLOWERS,
    window: Annotated[
        int, typer.Option(min=1, max=256, help="The outbox's window, which its two engines share.")
    ] = DEFAULT_WINDOW,
    prefetch: Annotated[
        int, typer.Option(min=1, help="The plain worker's prefetch multiplier.")
    ] = DEFAULT_PREFETCH,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> int:
    """Measure this service against the plain way of doing the same, on this machine.

    It asserts nothing about speed; a message lost or received twice makes it fail.
    """
    plan = Plan(
        messages=messages,
        plain_messages=plain_messages or min(messages, PLAIN_MESSAGES),
        rounds=rounds,
        seconds=seconds,
        transactions=transactions,
        followers=followers,
        window=window,
        prefetch=prefetch,
    )
    chosen = frozenset(figures or Figure)
    console = Console(stderr=True, highlight=False) if json else output.console
    with set_up() as stage, watching(console) as watch:
        facts = machine(stage.server)
        report = {"machine": asdict(facts), "plan": asdict(plan), **_taken(stage, plan, chosen, watch)}
        report["figures"] = verdicts(report)
    if json:
        sys.stdout.write(json_text.dumps(report) + "\n")
    else:
        console.print(str(facts))
        show(report, plan, console)
    wrong = complaint(report)
    return _say(wrong, FAILED) if wrong else 0


def _taken(stage: Stage, plan: Plan, chosen: frozenset[Figure], watch: Watch) -> dict[str, Any]:
    report = {}
    if Figure.DRAIN in chosen:
        report["drain"] = drain_report(take_drain(stage, plan, watch))
    if Figure.LATENCY in chosen:
        report["latency"] = latency_report(take_latency(stage, plan, watch))
    for database in enqueue.DATABASES:
        name = Figure(f"enqueue-{database}")
        if name in chosen:
            report[name.value] = enqueue_report(take_enqueue(stage, plan, database, watch))
    for database in enqueue.DATABASES:
        name = Figure(f"claim-{database}")
        if name in chosen:
            report[name.value] = claim_report(take_claims(stage, plan, database, watch))
    for items in judging.ITEMS:
        name = Figure(f"judge-{items}")
        if name in chosen:
            report[name.value] = judge_report(take_judging(items, watch))
    if Figure.WINDOW in chosen:
        report["window"] = window_report(take_window(plan, watch))
    return report


def _say(line: str, status: int) -> int:
    sys.stderr.write(f"{line}\n")
    return status
