"""Watching: what is wrong becomes an incident, what is no longer wrong is resolved.

Cheap and idempotent, so that every engine and the scheduler may do it at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta

from config import Configuration, Settings

from .database import sqlite_file
from .identity import MACHINE
from .store import watching
from .store.causes import AlertTimes
from .store.transactions import Store
from .troubles import Disks, findings

REFRESHED_EVERY = timedelta(minutes=1)
"""How often an incident that stays open is told how things stand."""
LONGEST_PAUSE_SECONDS = 10.0
LOOKS_IN_A_SILENCE = 4


def watch(
    store: Store,
    configuration: Configuration,
    alert_times: AlertTimes,
    read_disks: Callable[[Settings], Disks] | None = None,
) -> None:
    """Look how things stand, and open, refresh and resolve incidents.

    Args:
        read_disks: returns what is free on the disks of this machine; None where that is not looked at.
    """
    with store.reading() as transaction:
        facts = watching.look(transaction)
    settings = configuration.settings
    disks = None if read_disks is None else read_disks(settings)
    pauses = {name: each.pauses for name, each in configuration.destinations.items()}
    found = findings(facts, settings.alerts, pauses, disks)
    for trouble in found.there:
        written_at = facts.open.get(trouble.cause)
        if written_at is None:
            with store.writing() as transaction:
                watching.open_trouble(transaction, trouble, alert_times)
        elif facts.now - written_at >= REFRESHED_EVERY:
            with store.writing() as transaction:
                watching.refresh_trouble(transaction, trouble)
    for cause in found.over:
        with store.writing() as transaction:
            watching.close_trouble(transaction, cause)
    # Nobody can resume or probe a destination that is no more.
    for name in sorted(facts.stops_told - configuration.destinations.keys()):
        with store.writing() as transaction:
            watching.close_stops(transaction, name)


def pause_between_looks(settings: Settings) -> float:
    """Return how many seconds pass between two looks, and between two signs of life."""
    return min(LONGEST_PAUSE_SECONDS, settings.alerts.silence.total_seconds() / LOOKS_IN_A_SILENCE)


def disks_of(settings: Settings) -> Disks:
    """Return what is free on the disks that the service needs on this machine, each told once."""
    file = sqlite_file(settings.database_url)
    folders = {} if file is None else {"database": file.absolute().parent}
    folders["state_dir"] = settings.state_dir.absolute()
    free: dict[str, float] = {}
    seen: set[int] = set()
    for what, folder in folders.items():
        try:
            there = next(each for each in (folder, *folder.parents) if each.exists())
            device, usage = there.stat().st_dev, shutil.disk_usage(there)
        except OSError:
            continue
        if device not in seen and usage.total:
            free[what] = usage.free / usage.total
        seen.add(device)
    return Disks(MACHINE, free)
