"""Arguments that several commands share."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from config import load_settings
from config.values import duration
from orderflow_outbox.errors import OutboxError
from worker import visiting
from worker.by_hand import says_something
from worker.gate import THE_SERVICE
from worker.store.finding import Filter
from worker.store.transactions import Store


class UsageProblem(OutboxError):
    """A command line that cannot be carried out as it stands."""


USER_VARIABLE = "OUTBOX_USER"


def _who() -> str:
    try:
        return os.environ.get(USER_VARIABLE) or getpass.getuser()
    except (KeyError, OSError):  # no such user, as in a container
        return f"uid {os.getuid()}"


LARGEST_ID = 2**63 - 1

Id = Annotated[int, typer.Argument(metavar="ID", help="The message's number.", min=1, max=LARGEST_ID)]
Ids = Annotated[
    list[int] | None,
    typer.Argument(metavar="[ID]...", help="Numbers of messages.", min=1, max=LARGEST_ID),
]
DestinationOption = Annotated[str | None, typer.Option("--destination", help="Only of this destination.")]
OperationOption = Annotated[str | None, typer.Option("--operation", help="Only of this operation.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Only of this reason code.")]
IncidentOption = Annotated[
    int | None, typer.Option("--incident", help="Only of this incident.", min=1, max=LARGEST_ID)
]
AllOption = Annotated[bool, typer.Option("--all", help="Every open dead letter.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", help='Only from then on: "2h", "7d", or 2026-11-01T09:30.')
]


def _given_name(value: str) -> str:
    name = value.strip()
    if not name:
        raise UsageProblem("--by is empty: say who does it; it is kept with the message")
    if name == THE_SERVICE:
        raise UsageProblem(f"--by is {name!r}, which is kept for what is done by itself: give your own name")
    return name


By = Annotated[
    str,
    typer.Option(
        "--by",
        help="Who does it.",
        default_factory=_who,
        show_default="your login",
        callback=_given_name,
    ),
]
Why = Annotated[str, typer.Option("--why", help="Why; kept with the message.")]


def filter_of(
    ids: list[int] | None,
    destination: str | None,
    operation: str | None,
    reason: str | None,
    since: str | None,
    incident: int | None = None,
) -> Filter:
    """Return the filter the options describe."""
    moment = None if since is None else _since(since)
    return Filter(tuple(ids or ()), destination, operation, reason, moment, incident)


def moment_of(option: str, value: str) -> datetime:
    """Return the moment written as ISO 8601; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise UsageProblem(f"{option} is {value!r}: write it as 2026-11-01T09:30") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _since(value: str) -> datetime:
    try:
        span: timedelta = duration(value)
    except ValueError:
        span = timedelta()
    if span:
        return datetime.now(UTC) - span
    try:
        return moment_of("--since", value)
    except UsageProblem:
        raise UsageProblem(f'--since is {value!r}: write "2h", "7d" or 2026-11-01T09:30') from None


def checked_why(why: str) -> str:
    """Return the reason, once there is one."""
    if not says_something(why):
        raise UsageProblem("--why is empty: say why; it is kept with the message")
    return why.strip()


def pairs(option: str, pairs: list[str] | None) -> dict[str, str]:
    """Return what an option says that is given once for each pair."""
    result = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageProblem(f"{option} is {pair!r}: write it as NAME=VALUE")
        result[name] = value
    return result


@contextmanager
def opened_store() -> Iterator[Store]:
    """Open the store of the configured database, once its tables are of this release."""
    with visiting.store_of(load_settings()) as store:
        yield store
