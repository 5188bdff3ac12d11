"""The command line: `python -m bench [FIGURE]…`."""

from __future__ import annotations

import json as json_text
import os
import signal
import sys
from dataclasses import asdict
from typing import Annotated

import psycopg
import typer
from rich.console import Console

from orderflow_outbox.errors import OutboxError
from worker.commands import output

from .claiming import FOLLOWERS
from .figures import FIGURES, taken
from .machine import machine
from .plan import Plan
from .report import as_json, complaint, show
from .stage import BenchFailed, set_up
from .watching import watching
from .with_outbox import DEFAULT_WINDOW
from .with_plain_task import DEFAULT_PREFETCH

FAILED = 1
USAGE_ERROR = 2
PLAIN_MESSAGES = 2000
CROWD = 1_000_000

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


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


def _known(figures: list[str] | None) -> list[str]:
    unknown = [each for each in figures or () if each not in FIGURES]
    if unknown:
        raise typer.BadParameter(f"there is no figure {', '.join(unknown)}")
    return figures or list(FIGURES)


@app.command()
def bench(
    figures: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FIGURE]…", help=f"{', '.join(FIGURES)}; by default all.", callback=_known),
    ] = None,
    messages: Annotated[
        int, typer.Option(min=1, help="Messages that wait when `drain` begins; at most, elsewhere.")
    ] = 24_000,
    plain_messages: Annotated[
        int | None, typer.Option(min=1, help="The same for the plain task; by default 2000 at most.")
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Rounds of each contestant, taken in turn, where messages are sent.")
    ] = 3,
    seconds: Annotated[
        float,
        typer.Option(min=0.1, max=3600, help="How long each round of `latency` takes; at most, elsewhere."),
    ] = 12.0,
    transactions: Annotated[
        int, typer.Option(min=1, help="Transactions of each kind of `enqueue`, in rounds of some dozen.")
    ] = 2400,
    followers: Annotated[
        int, typer.Option(min=1, help="Messages parked while `claim` claims others.")
    ] = FOLLOWERS,
    crowd: Annotated[
        int,
        typer.Option(
            min=100,
            help="Messages in the large databases of `history`, `memory`, `purge` and `search-term`; a fifth "
            "of that in `search-text`; a tenth waits in `history`, `snapshot` and `fair`.",
        ),
    ] = CROWD,
    window: Annotated[
        int, typer.Option(min=1, max=256, help="The outbox's window, which its two engines share.")
    ] = DEFAULT_WINDOW,
    prefetch: Annotated[
        int, typer.Option(min=1, help="The plain worker's prefetch multiplier.")
    ] = DEFAULT_PREFETCH,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON for machines; the figures are the last line.")
    ] = False,
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
        crowd=crowd,
        window=window,
        prefetch=prefetch,
    )
    console = Console(stderr=True, highlight=False) if json else output.console
    with set_up() as stage, watching(console) as watch:
        facts = machine(stage.server)
        comparisons = taken(figures or (), stage, plan, watch)
    if json:
        sys.stdout.write(json_text.dumps({"machine": asdict(facts), "plan": asdict(plan)}) + "\n")
        sys.stdout.write(json_text.dumps([as_json(each) for each in comparisons]) + "\n")
    else:
        console.print(str(facts))
        show(comparisons, console)
    wrong = complaint(comparisons)
    return _say(wrong, FAILED) if wrong else 0


def _say(line: str, status: int) -> int:
    sys.stderr.write(f"{line}\n")
    return status
