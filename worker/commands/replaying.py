"""`dead replay`: at once, with care, or as a dry run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from config import load
from orderflow_outbox import State
from worker.replays.replaying import Replayed, replay
from worker.replays.surveying import IN_WORDS, Finding, Found, survey
from worker.store.finding import Filter

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
    UsageProblem,
    checked_why,
    filter_of,
    opened_store,
)
from .replays import begin_and_watch, care_of

Force = Annotated[
    bool, typer.Option("--force", help="Obsolete ones too, each sent as the latest of its key.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Replay nothing: tell how many, and what is in the way.")
]
Canary = Annotated[
    int, typer.Option(help="So many first, spread over all; the rest when they have ended.", min=0)
]
CanaryWait = Annotated[
    str | None, typer.Option("--canary-wait", help="How long the canary may take.", show_default="1h")
]
RateOption = Annotated[
    str | None, typer.Option("--rate", help="So many of the rest: 60/m, 5/s.", show_default="as many as go")
]
StopAt = Annotated[
    str | None, typer.Option("--stop-at", help="Stop when more fail again.", show_default="20%")
]
Detach = Annotated[bool, typer.Option("--detach", help="Do not watch how the engines go on.")]
WhyUnlessDry = Annotated[str, typer.Option("--why", help="Why; kept with the message. A dry run needs none.")]


def replay_command(
    ids: Ids = None,
    destination: DestinationOption = None,
    operation: OperationOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    incident: IncidentOption = None,
    every: AllOption = False,
    force: Force = False,
    dry_run: DryRun = False,
    canary: Canary = 0,
    canary_wait: CanaryWait = None,
    rate: RateOption = None,
    stop_at: StopAt = None,
    detach: Detach = False,
    *,
    by: By,
    why: WhyUnlessDry = "",
    json: output.Json = False,
) -> int:
    """Send dead messages again, each as a new message linked to the old one.

    With --canary, --rate or --stop-at the engines do it, step by step: see `replays`.
    """
    wanted = filter_of(ids, destination, operation, reason, since, incident)
    check_named(wanted, every)
    care = care_of(canary, canary_wait, rate, stop_at)
    if dry_run:
        if force:
            raise UsageProblem("--dry-run does not look at what --force does: leave one out")
        return _dry_run(wanted, json)
    note = checked_why(why)
    configuration = load(need_secrets=False)
    if care is not None:
        if force:
            raise UsageProblem("--force replays at once: leave out --canary, --rate and --stop-at")
        with opened_store() as store:
            return begin_and_watch(store, wanted, care, by, note, configuration, detach=detach, json=json)

    def replayed(message_id: int) -> Replayed:
        return replay(store, message_id, by, note, catalogue=configuration.catalogue, force=force)

    with opened_store() as store:
        chosen = chosen_dead(store, wanted)
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


def _dry_run(wanted: Filter, json: bool) -> int:
    """Tell what a replay would come to."""
    configuration = load(need_secrets=False)
    with opened_store() as store:
        made = survey(store, wanted, configuration)
    if json:
        found = {finding: _found_json(each) for finding, each in sorted(made.found.items())}
        output.print_json({"total": made.total, "sendable": made.sendable, "found": found})
        return 0
    output.console.print(f"a dry run: {made.sendable} of {made.total} messages would be replayed")
    for finding in [each for each in Finding if each in made.found]:
        of_it = made.found[finding]
        output.console.print(f"{of_it.number:>8}  {IN_WORDS[finding]}")
        for message_id, text in of_it.examples:
            if text:
                output.console.print(output.plain(f"            message {message_id}: {text}"))
    return 0


def _found_json(found: Found) -> dict[str, Any]:
    examples = [{"message": message_id, "text": text} for message_id, text in found.examples]
    return {"number": found.number, "examples": examples}


def _fate(replayed: Replayed) -> str:
    if replayed.created:
        return f"is replayed as message {replayed.replay}"
    hint = f": replay {replayed.replay}" if replayed.state == State.DEAD else ""
    return f"was replayed before, as message {replayed.replay}, which is {replayed.state}{hint}"
