"""`web` and `web hash-password`."""

from __future__ import annotations

import getpass
import sys

import typer

from config import load
from worker.readiness import check_tables
from worker.web.listening import address_of, check_certificate, listen

from .arguments import UsageProblem
from .running import RunFailed, say


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(
        help="Serve the console until Ctrl-C or TERM; make hashes of passwords.", invoke_without_command=True
    )
    group.callback()(web_command)
    group.command("hash-password")(hash_command)
    app.add_typer(group, name="web")


def web_command(context: typer.Context) -> None:
    """Serve the console until Ctrl-C or TERM."""
    if context.invoked_subcommand is not None:
        return
    from worker.web.app import application  # only who serves waits for these to be read
    from worker.web.serving import log_to_output, server_of
    from worker.web.users import users_of

    configuration = load(need_secrets=False)
    settings = configuration.settings
    check_certificate(settings.web)
    check_tables(settings)
    users = users_of(settings)
    app = application(configuration, users)
    try:
        socket = listen(settings.web)
    except OSError as error:
        where = f"{settings.web.address}:{settings.web.port}"
        raise RunFailed(
            f"the console cannot listen at {where}: {error.strerror}: give web.port another number"
        ) from None
    log_to_output()
    say(f"Console: {address_of(settings.web)}")
    if users.told:
        say(users.told)
    with socket:
        server_of(app, settings.web).run([socket])


def hash_command() -> None:
    """Read a password from the terminal, or a line of standard input, and print its hash for web.users."""
    from worker.web import passwords

    password = _typed() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if not passwords.SHORTEST <= len(password) <= passwords.LONGEST:
        bounds = f"{passwords.SHORTEST} to {passwords.LONGEST} characters"
        raise UsageProblem(f"the password has {len(password)} characters: give one of {bounds}")
    sys.stdout.write(f"{passwords.hash_of(password)}\n")


def _typed() -> str:
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise UsageProblem("the two are not the same: type it again")
    return password
