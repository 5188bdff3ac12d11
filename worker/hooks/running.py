"""Running hooks: processes beside each other, fed by standard input, ended in time with all they started."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import SecretStr

from config import Hook, HookKind
from config.values import web_address
from worker.hooks.__main__ import PATH_BEFORE
from worker.processes import how_it_ended, kill_group

MAX_ERROR_CHARACTERS = 300
MAX_AT_ONCE = 8
"""So many processes run at the same time: more would take the time of a small machine from each other."""


class HookFailed(Exception):
    """A hook did not take the alert."""


@dataclass(frozen=True, slots=True)
class Job:
    """One alert for one hook.

    Attributes:
        document: what a program gets, as JSON.
        title: what a person gets, on one line; `body` is the rest.
    """

    hook: Hook
    document: Mapping[str, Any]
    title: str
    body: str


def tell_all(jobs: Sequence[Job], timeout: timedelta) -> list[str | None]:
    """Tell alerts, MAX_AT_ONCE at a time, and return for each what went wrong; None where it was taken.

    Args:
        jobs: what to tell, and by which hooks.
        timeout: how long each hook may take from its own start. One that takes longer is killed, with all
            that it started.
    """
    if not jobs:
        return []
    # A thread waits for each, since the kernel ends a process once the thread that made it is gone.
    with ThreadPoolExecutor(min(len(jobs), MAX_AT_ONCE), thread_name_prefix="outbox-hook") as threads:
        return list(threads.map(lambda job: _told(job, timeout), jobs))


def longest(jobs: int, timeout: timedelta) -> timedelta:
    """Return how long so many jobs take at most, where each takes its whole time."""
    return timeout * -(-jobs // MAX_AT_ONCE)


def name_of(hook: Hook) -> str:
    """Return what a hook is remembered by: a digest, since its address may be a secret."""
    what = getattr(hook, hook.kind)
    shown = what.get_secret_value() if isinstance(what, SecretStr) else what
    told = [hook.kind, str(shown), hook.severities, hook.destinations]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def label_of(hook: Hook) -> str:
    """Return what a hook is called before people: nothing of its address."""
    match hook.kind:
        case HookKind.COMMAND:
            return f"command {(hook.command or [''])[0]}"
        case HookKind.PYTHON:
            return f"python {hook.python}"
        case _:
            return str(hook.kind)


def _told(job: Job, timeout: timedelta) -> str | None:
    try:
        _run(job, timeout)
    except HookFailed as error:
        said = str(error)
    except OSError as error:
        said = f"{label_of(job.hook)} could not be run: {error.strerror}"
    except Exception as error:
        said = f"{label_of(job.hook)} could not be run: {type(error).__name__}"
    else:
        return None
    # Not every database stores what is not printable.
    return "".join(each if each.isprintable() else "·" for each in said[:MAX_ERROR_CHARACTERS])


def _run(job: Job, timeout: timedelta) -> None:
    label, seconds = label_of(job.hook), timeout.total_seconds()
    told = dict(job.document) if job.hook.command is not None else _order_of(job, seconds)
    given = json.dumps(told).encode()
    process = subprocess.Popen(
        [sys.executable, "-m", "worker.hooks", str(os.getpid()), *(job.hook.command or ())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # It finds what this process finds, wherever it was started.
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            PATH_BEFORE: os.environ.get("PYTHONPATH", ""),
        },
        start_new_session=True,
    )
    with process:
        try:
            said, _ = process.communicate(given, seconds)
        except Exception as error:
            kill_group(process)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise HookFailed(f"{label} took longer than {seconds:g} s") from None
    if process.returncode:
        raise HookFailed(said.decode(errors="replace") if said else _how(label, process.returncode))


def _order_of(job: Job, seconds: float) -> dict[str, Any]:
    """Return what the process of a hook that is no command is to do."""
    return {
        "kind": job.hook.kind,
        "address": _address(job.hook),
        "document": job.document,
        "title": job.title,
        "body": job.body,
        "seconds": seconds,
    }


def _how(label: str, returncode: int) -> str:
    return (
        f"{label} ended with status {returncode}" if returncode > 0 else f"{label} {how_it_ended(returncode)}"
    )


def _address(hook: Hook) -> str | None:
    if hook.python is not None:
        return hook.python
    place = hook.secret_place
    secret = getattr(hook, hook.kind) if place is None else place.read()
    if secret is None:
        raise HookFailed(f"{hook.kind}: its address is not to be had from {place}: put it there")
    address = str(secret.get_secret_value())
    if hook.webhook is not None:
        try:
            web_address(address.partition("?")[0], unless="")
        except ValueError as error:
            raise HookFailed(f"webhook: its address cannot be used: {error}") from None
    return address
