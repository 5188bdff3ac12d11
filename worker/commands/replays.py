"""`replays`, `replays show`, `replays stop`, `replays continue` and `replays cancel`; and watching one."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from config import Configuration, Rate
from config.values import duration, in_words
from worker.replays import runs
from worker.replays.run import AT_WORK, Care, Run, RunState
from worker.store.finding import Filter
from worker.store.transactions import Store
from worker.store.watching import look
from worker.troubles import alive

from . import output
from .acting import report
from .arguments import LARGEST_ID, By, UsageProblem, Why, checked_why, opened_store

SHOWN_RUNS = 20
SHOWN_MEMBERS = 100
LOOK_SECONDS = 0.5
"""From one look at a run that is watched to the next."""
LINE_SECONDS = 5.0
"""Between two lines of a run that is watched where there is no terminal."""
USUAL_STOP_SHARE = 0.2

_RATE = re.compile(r"(?P<requests>[0-9]{1,7})/(?P<per>[smhd])")
_SHARE = re.compile(r"(?P<percent>[0-9]{1,3}(?:\.[0-9]+)?) ?%")

RunId = Annotated[int, typer.Argument(metavar="RUN", help="The run's number.", min=1, max=LARGEST_ID)]
Watch = Annotated[bool, typer.Option("--watch", help="Go on showing it until it stops or ends.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    replays = typer.Typer(
        help="Look at replay runs, stop, continue or cancel them.", invoke_without_command=True
    )
    replays.callback()(list_command)
    replays.command("show")(show_command)
    replays.command("stop")(stop_command)
    replays.command("continue")(continue_command)
    replays.command("cancel")(cancel_command)
    app.add_typer(replays, name="replays")


def care_of(canary: int, wait: str | None, rate: str | None, stop_at: str | None) -> Care | None:
    """Return with how much care the options ask for, None where they ask for none."""
    if wait is not None and not canary:
        raise UsageProblem("--canary-wait goes with --canary: say how many go first")
    if not canary and rate is None and stop_at is None:
        return None
    share = USUAL_STOP_SHARE if stop_at is None else _share_of(stop_at)
    care = Care(canary, rate=None if rate is None else _rate_of(rate), stop_share=share)
    return care if wait is None else Care(canary, _wait_of(wait), care.rate, share)


def begin_and_watch(
    store: Store,
    wanted: Filter,
    care: Care,
    by: str,
    why: str,
    configuration: Configuration,
    *,
    detach: bool,
    json: bool,
) -> int:
    """Begin a run, and show how it goes on unless that is not wanted; return the exit status."""
    try:
        run = runs.begin(store, wanted, care, by, why, configuration)
    except runs.NoneMeant:
        return report("replayed", [], [], json)
    if not json:
        output.console.print(f"run {run.id} has begun: {run.chosen} of {run.total} messages are replayed")
    _warn_of_silence(store, configuration)
    return _told(run, json) if detach else _watched(store, run, json)


def list_command(context: typer.Context, json: output.Json = False) -> None:
    """List the latest runs, the newest first."""
    if context.invoked_subcommand is not None:
        return
    with opened_store() as store:
        found = runs.latest(store, SHOWN_RUNS)
    if json:
        output.print_json([as_json(run) for run in found])
        return
    if not found:
        output.console.print("no run has begun: dead replay with --canary, --rate or --stop-at begins one")
        return
    columns = ("run", "state", "begun (UTC)", "by", "sent", "of", "delivered", "failed", "left out", "text")
    shown = output.table(*columns)
    for run in found:
        counts = (run.sent, run.chosen, run.delivered, run.failed, run.left_out)
        shown.add_row(
            str(run.id),
            output.plain(run.state),
            output.moment(run.begun_at),
            output.plain(run.begun_by),
            *map(str, counts),
            output.plain(run.said or run.why),
        )
    output.console.print(shown)


def show_command(run_id: RunId, watch: Watch = False, json: output.Json = False) -> int:
    """Show a run: how far it is, and its messages that were not simply delivered."""
    with opened_store() as store:
        if watch:
            return _watched(store, runs.find(store, run_id), json)
        shown = runs.show(store, run_id, SHOWN_MEMBERS)
    if json:
        members = [{k: v for k, v in output.as_json(row).items() if k != "run_id"} for row in shown.members]
        output.print_json({**as_json(shown.run), "members": members})
        return 0
    run = shown.run
    output.console.print(output.plain(f"run {run.id} by {run.begun_by}: {run.why}"))
    for name, value in _facts(run):
        output.console.print(output.plain(f"  {name:<16} {value}"))
    output.console.print(output.plain(line_of(run)))
    for row in shown.members:
        replay = "" if row["replay"] is None else f", replayed as {row['replay']}"
        said = "" if row["said"] is None else f": {row['said']}"
        output.console.print(output.plain(f"  message {row['message_id']}{replay}: {row['outcome']}{said}"))
    return 0


def stop_command(run_id: RunId, *, by: By, why: Why, json: output.Json = False) -> None:
    """Stop a run: what is sent stays as it is, nothing more is sent until it is continued."""
    with opened_store() as store:
        _told(runs.stop(store, run_id, by, checked_why(why)), json)


def continue_command(run_id: RunId, *, by: By, why: Why, json: output.Json = False) -> None:
    """Continue a stopped run, judged by what ends from now on."""
    with opened_store() as store:
        _told(runs.go_on(store, run_id, by, checked_why(why)), json)


def cancel_command(run_id: RunId, *, by: By, why: Why, json: output.Json = False) -> None:
    """End a run for good: what is sent stays as it is, the rest stay dead letters."""
    with opened_store() as store:
        _told(runs.cancel_run(store, run_id, by, checked_why(why)), json)


def as_json(run: Run) -> dict[str, Any]:
    """Return a run as one JSON object."""
    shown = ("id", "state", "begun_at", "begun_by", "why", "wanted", "changed_at", "changed_by", "said")
    counts = ("total", "chosen", "left_out", "sent", "under_way", "delivered", "failed", "others", "to_come")
    care = run.care
    return {
        **{name: getattr(run, name) for name in (*shown, *counts)},
        "canary": care.canary,
        "canary_seconds": care.patience.total_seconds(),
        "rate": None if care.rate is None else str(care.rate),
        "stop_at": care.stop_share,
    }


def line_of(run: Run) -> str:
    """Return in one line how far a run is."""
    counts = f"{run.sent} of {run.chosen} sent, {run.delivered} delivered, {run.failed} failed"
    others = f", {run.others} ended otherwise" if run.others else ""
    said = f": {run.said}" if run.said else ""
    left_out = f", {run.left_out} left out" if run.left_out else ""
    return f"run {run.id} is {run.state}{said}; {counts}{others}, {run.under_way} under way{left_out}"


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    care = run.care
    yield "begun", f"{output.moment(run.begun_at)} UTC"
    yield "messages", ", ".join(f"{name} {value}" for name, value in run.wanted.items()) or "all"
    if care.canary:
        yield "canary", f"{care.canary}, which may take {in_words(care.patience)}"
    yield "rate", "as many as go" if care.rate is None else str(care.rate)
    yield "stops", "never" if care.stop_share is None else f"past {care.stop_share * 100:g} % that fail again"
    yield run.state, f"since {output.moment(run.changed_at)} UTC, by {run.changed_by}"


def _told(run: Run, json: bool) -> int:
    if json:
        output.print_json(as_json(run))
    else:
        output.console.print(output.plain(line_of(run)))
    return 0


def _watched(store: Store, run: Run, json: bool) -> int:
    """Show how a run goes on until it stops or ends; return 0 where it has done all it should."""
    try:
        with _progress(run, quiet=json) as show:
            while run.state in AT_WORK:
                show(run)
                time.sleep(LOOK_SECONDS)
                run = runs.find(store, run.id)
    except KeyboardInterrupt:
        again = f"python -m worker replays show {run.id} --watch"
        sys.stderr.write(f"run {run.id} goes on by itself; to watch it again: {again}\n")
        return 0
    _told(run, json)
    return 0 if run.state is RunState.FINISHED else 1


@contextmanager
def _progress(run: Run, quiet: bool) -> Iterator[Any]:
    """Give what shows a run: a bar on a terminal, otherwise now and then a line."""
    if quiet:
        yield lambda _run: None
    elif not output.console.is_terminal:
        yield _Lines()
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=output.progress, transient=True) as bar:
            task = bar.add_task("", total=run.chosen)
            yield lambda now: bar.update(
                task, completed=now.ended, description=f"run {now.id} {now.state}, {now.failed} failed"
            )


class _Lines:
    """Prints a line where a state is new, or some time after the last line."""

    def __init__(self) -> None:
        self._last: tuple[RunState | None, float, str] = (None, 0.0, "")

    def __call__(self, run: Run) -> None:
        state, at, said = self._last
        line, now = line_of(run), time.monotonic()
        if line != said and (run.state is not state or now - at >= LINE_SECONDS):
            output.console.print(output.plain(line))
            self._last = run.state, now, line


def _warn_of_silence(store: Store, configuration: Configuration) -> None:
    with store.reading() as transaction:
        facts = look(transaction)
    if not alive(facts, configuration.settings.alerts.silence):
        sys.stderr.write("no engine is alive: the run goes on once a worker is started\n")


def _share_of(text: str) -> float:
    match = _SHARE.fullmatch(text.strip())
    share = float(match["percent"]) / 100 if match else None
    if share is None or share > 1:
        raise UsageProblem(f"--stop-at is {text!r}: write a share such as 20%, and 100% for never")
    return share


def _rate_of(text: str) -> Rate:
    match = _RATE.fullmatch(text.strip())
    try:
        if match:
            return Rate(requests=int(match["requests"]), per=duration(f"1{match['per']}"))
    except ValidationError:
        pass
    raise UsageProblem(f"--rate is {text!r}: write it as 60/m, 5/s or 600/h")


def _wait_of(text: str) -> timedelta:
    try:
        return duration(text)
    except ValueError:
        raise UsageProblem(f'--canary-wait is {text!r}: write it as "10m" or "2h"') from None
