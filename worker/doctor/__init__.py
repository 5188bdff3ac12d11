"""A look at everything the service needs: what is found, and what to do where it is not well."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from config import ConfigError, Destination, Settings, load, load_settings
from worker.schemas import Schemas

from .broker import keeps_hints
from .console import is_the_console
from .database import DatabaseChecks
from .finding import Check, Finding, State, all_found
from .flower import is_closed_to_strangers
from .machine import has_room
from .reaching import can_be_sent_to

LONGEST_SECONDS = 6.0
"""How long all checks together may take; they are made beside each other."""

__all__ = ["Finding", "State", "examine"]


def examine() -> list[Finding]:
    """Return what every check finds, in order; nothing is raised, and nothing is changed."""
    first, settings, destinations = _configuration()
    if settings is None:
        return [first]
    database = DatabaseChecks(settings)
    groups = [
        database.checks(),
        [Check("broker", partial(keeps_hints, settings=settings))],
        [Check("disks", partial(has_room, settings=settings))],
        *(
            [Check(f"destination {name}", partial(can_be_sent_to, destination=destination))]
            for name, destination in sorted(destinations.items())
        ),
        [Check("flower", partial(is_closed_to_strangers, settings=settings))],
        [Check("console", partial(is_the_console, settings=settings))],
    ]
    found = all_found(groups, LONGEST_SECONDS)
    database.close()
    return [first, *found]


def _configuration() -> tuple[Finding, Settings | None, Mapping[str, Destination]]:
    """Return how the configuration is, and of it what can be read."""
    name = "configuration"
    try:
        read = load()
        Schemas(read.schemas)  # refuses what is none
    except ConfigError as error:
        fix = "mend it; `python -m worker config check` tells the same"
        finding = Finding(name, State.TROUBLE, "; ".join(error.problems), fix)
    else:
        told = f"{read.file} and {read.destinations_file} are in order, every secret is to be had"
        return Finding(name, State.WELL, told), read.settings, read.destinations
    with suppress(ConfigError):
        read = load(need_secrets=False)
        return finding, read.settings, read.destinations
    with suppress(ConfigError):
        return finding, load_settings(), {}
    return finding, None, {}
