"""The command line. An error is one line on standard error and a non-zero exit."""

from __future__ import annotations

import sys

import typer
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from config import ConfigError
from orderflow_outbox.errors import OutboxError
from worker.database import trouble

from . import (
    configuration,
    dead,
    demonstration,
    doctor,
    documents,
    erasing,
    incidents,
    messages,
    output,
    purging,
    queries,
    replays,
    rules,
    running,
    search,
    status,
    web,
)
from .arguments import UsageProblem
from .running import RunFailed

USAGE_ERROR = 2
FAILED = 1

app = typer.Typer(
    name="worker",
    help="OrderFlow Outbox: store-and-forward of XML messages to OrderFlow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
messages.add_to(app)
search.add_to(app)
status.add_to(app)
dead.add_to(app)
replays.add_to(app)
incidents.add_to(app)
purging.add_to(app)
erasing.add_to(app)
running.add_to(app)
configuration.add_to(app)
doctor.add_to(app)
rules.add_to(app)
documents.add_to(app)
queries.add_to(app)
web.add_to(app)
demonstration.add_to(app)


def main(arguments: list[str]) -> int:
    """Run one command; return the exit status."""
    try:
        status = app(args=arguments, prog_name="python -m worker", standalone_mode=False)
    except typer.Abort:
        return _say("stopped", FAILED)
    except UsageProblem as error:
        return _say(str(error), USAGE_ERROR)
    except typer.TyperException as error:
        message = _message(error)
        hint = "(python -m worker --help tells what there is)"
        return _say(f"{message} {hint}", USAGE_ERROR) if message else USAGE_ERROR
    except ConfigError as error:
        return _say("\n".join(error.problems), FAILED)
    except (OutboxError, RunFailed) as error:
        return _say(str(error), FAILED)
    except OSError as error:  # such as a full disk under what is printed
        return _say(f"{error.strerror or error}", FAILED)
    except DBAPIError as error:
        return _say(trouble(error), FAILED)
    except SQLAlchemyError as error:
        told = " ".join(str(error).split())
        return _say(f"the database cannot be used: {type(error).__name__}: {told}", FAILED)
    except UnicodeEncodeError as error:
        return _say(f"{error.object!r} is not UTF-8: write it so", USAGE_ERROR)
    return status if isinstance(status, int) else 0


def _message(error: typer.TyperException) -> str:
    format_message = getattr(error, "format_message", None)
    return str(format_message() if format_message else error)


def _say(line: str, status: int) -> int:
    sys.stderr.write(f"{output.plain(line).plain}\n")
    return status
