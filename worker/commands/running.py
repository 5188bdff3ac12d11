"""`up`, `health`, `sweep`, `hold` and `resume`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from config import load, load_settings
from worker.by_hand import hold, resume
from worker.flower_login import flower_login
from worker.readiness import check_ready
from worker.store.causes import AlertTimes
from worker.store.watching import look
from worker.supervisor import Supervisor
from worker.sweep import sweep
from worker.troubles import alive, engines_silent
from worker.up import parts_of
from worker.web.listening import address_of, check_certificate

from . import output
from .arguments import By, UsageProblem, Why, checked_why, opened_store

DestinationName = Annotated[str, typer.Argument(metavar="DESTINATION", help="The name of one.")]


class RunFailed(Exception):
    """The service could not be started."""


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("up")(up_command)
    app.command("health")(health_command)
    app.command("sweep")(sweep_command)
    app.command("hold")(hold_command)
    app.command("resume")(resume_command)


def up_command(
    children: Annotated[
        int, typer.Option(help="Child processes of the worker, each with an engine.", min=1, max=64)
    ] = 2,
) -> int:
    """Run broker, worker, beat, Flower and the console on this machine, until Ctrl-C or TERM."""
    from worker.web.users import users_of  # only who starts the console waits for this to be read

    configuration = load()
    settings = configuration.settings
    check_ready(configuration)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_certificate(settings.web)
    login, users = flower_login(settings), users_of(settings)
    supervisor = Supervisor(parts_of(settings, children), say, settings.state_dir)
    say(f"Flower: http://{settings.flower.address}:{settings.flower.port} as {login.user}")
    if login.generated_in:
        say(f"its password, kept in {login.generated_in}: {login.password.get_secret_value()}")
    say(f"Console: {address_of(settings.web)} as {users.in_words}")
    if users.told:
        say(users.told)
    say(f"logs of each part: {settings.state_dir}/*.log; stop with Ctrl-C")
    try:
        return supervisor.run()
    except OSError as error:
        raise RunFailed(f"a part could not be started: {error}") from None


def health_command(json: output.Json = False) -> None:
    """Succeed while the database answers, its tables fit, and what is due has an engine."""
    silence = load_settings().alerts.silence
    with opened_store() as store, store.reading() as transaction:
        facts = look(transaction)
    silent = engines_silent(facts, silence)
    if silent is not None and any(facts.now - each.due_at >= silence for each in facts.oldest_due):
        raise RunFailed(f"no engine is alive while messages are due: {silent.text}: start a worker")
    engines = alive(facts, silence)
    if json:
        output.print_json({"ok": True, "engines": engines})
    else:
        output.console.print("the database answers, and its tables are of this release")
        output.console.print(f"engines alive: {engines}")


def sweep_command(json: output.Json = False) -> None:
    """Take back expired leases, free parked messages, end expired ones; without Celery."""
    configuration = load(need_secrets=False)
    alerts = configuration.settings.alerts
    with opened_store() as store:
        swept = sweep(store, configuration, AlertTimes(alerts.grouping, alerts.reminder))
    if json:
        output.print_json(asdict(swept))
    else:
        output.console.print(
            f"rescued {swept.rescued}, unparked {swept.unparked}, found {swept.aging} near their end, "
            f"ended {swept.expired} as expired"
        )


def hold_command(destination: DestinationName, *, by: By, why: Why, json: output.Json = False) -> None:
    """Stop sending to a destination; its messages wait and spend no tries."""
    _known(destination)
    with opened_store() as store:
        hold(store, destination, by, checked_why(why))
    if json:
        output.print_json({"destination": destination, "gate": "held"})
    else:
        output.console.print(f"{destination} is held")


def resume_command(destination: DestinationName, *, by: By, why: Why, json: output.Json = False) -> None:
    """Send to a held destination again; one left alone after failures is tried at once."""
    _known(destination)
    with opened_store() as store:
        before = resume(store, destination, by, checked_why(why))
    probed = not before.breaker.is_closed
    if json:
        told = {"destination": destination, "gate": "open", "was_held": before.is_held, "probed": probed}
        output.print_json(told)
    else:
        said = f"{destination} is open" if before.is_held else f"{destination} was open already"
        output.console.print(f"{said}; its breaker is too: a probe is made now" if probed else said)


def _known(destination: str) -> None:
    known = load(need_secrets=False).destinations
    if destination not in known:
        raise UsageProblem(f"DESTINATION is {destination!r}: choose one of {', '.join(sorted(known))}")


def say(line: str) -> None:
    """Print a line at once, whoever reads it."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
