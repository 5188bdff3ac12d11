"""The process of one hook: `python -m worker.hooks PARENT [COMMAND …]`, given what to do on standard input.

It ends with its parent, and becomes the command where it is given one: so the parent, which has many threads,
need not run anything of its own between fork and exec. It starts in a twentieth of a second, since it imports
nothing but what its own kind of hook needs.

Where the hook fails it says why in one line on standard output, and ends with status 1. What it says
quotes no error and no address, either of which may hold a secret.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import sys
from typing import Any
from urllib.parse import unquote, urlsplit

from worker.processes import end_with

PATH_BEFORE = "OUTBOX_HOOK_PYTHONPATH"
"""Where PYTHONPATH is kept meanwhile."""
MASKED = "********"
SHORTEST_SECRET = 4
"""Shorter words of an address say nothing, and stand in every sentence."""


class HookFailed(Exception):
    """The hook did not take the alert."""


def main(parent: str, *command: str) -> int:
    """Tell one alert by one hook.

    Args:
        parent: the process number of the one that wants it told.
        command: is run instead, with the alert on its standard input.
    """
    # Whatever a hook prints goes nowhere: what stands on standard output is told to people.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        end_with(int(parent))
        if command:
            _become(command)
        job = json.load(sys.stdin)
        _HOW[job["kind"]](job)
    except HookFailed as error:
        answer.write(str(error))
        answer.close()
        return 1
    return 0


def _become(command: tuple[str, ...]) -> None:
    # What this process needed to be found is not the command's, which may be of another Python.
    os.environ["PYTHONPATH"] = os.environ.pop(PATH_BEFORE, "")
    # Python ignores it, and what it becomes would too.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 (no shell is wanted)
    except OSError as error:
        raise HookFailed(f"command {command[0]} could not be started: {error.strerror}") from None


def _post(job: dict[str, Any]) -> None:
    """Post the document; a redirect is no answer, and no proxy is asked."""
    import http.client
    import ssl

    address = urlsplit(job["address"])
    host, port, seconds = address.hostname or "", address.port, job["seconds"]
    connection = (
        http.client.HTTPSConnection(host, port, timeout=seconds, context=ssl.create_default_context())
        if address.scheme == "https"
        else http.client.HTTPConnection(host, port, timeout=seconds)
    )
    target = (address.path or "/") + (f"?{address.query}" if address.query else "")
    headers = {"Content-Type": "application/json", "User-Agent": "orderflow-outbox"}
    try:
        connection.request("POST", target, json.dumps(job["document"]).encode(), headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise HookFailed(f"webhook: {type(error).__name__}") from None
    if not 200 <= status < 300:
        raise HookFailed(f"webhook answered HTTP {status}")


def _call(job: dict[str, Any]) -> None:
    """Call a deployer's own function with the document."""
    import inspect

    module, _, function = job["address"].partition(":")
    try:
        call = getattr(importlib.import_module(module), function)
    except (Exception, SystemExit) as error:
        raise HookFailed(f"python {job['address']} cannot be had: {type(error).__name__}") from None
    try:
        answer = call(job["document"])
    except (Exception, SystemExit) as error:
        raise HookFailed(f"python {job['address']} raised {type(error).__name__}") from None
    if inspect.isawaitable(answer):
        raise HookFailed(
            f"python {job['address']} is an async function, which nobody awaits: write a plain one"
        )


def _notify(job: dict[str, Any]) -> None:
    """Have Apprise send the alert as text."""
    import logging

    from apprise import Apprise, NotifyFormat, NotifyType

    said: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        said.append(record.getMessage())
        return False

    logging.getLogger("apprise").addFilter(note)
    services = Apprise()
    if not services.add(job["address"]):
        raise HookFailed(f"apprise cannot use this address: {_masked(said, job['address'])}")
    kind = NotifyType.SUCCESS if job["document"]["kind"] == "resolved" else NotifyType.FAILURE
    took_it = services.notify(job["body"], job["title"], notify_type=kind, body_format=NotifyFormat.TEXT)
    if not took_it:
        raise HookFailed(f"apprise: {_masked(said, job['address'])}")


def _masked(said: list[str], address: str) -> str:
    """Return what Apprise said last, without any word of the address: each may be a password."""
    # It shortens what is secret in an address that it shows, which leaves the ends.
    line = re.sub(r"\S+://\S*", MASKED, said[-1] if said else "it does not say why")
    password = urlsplit(address).password or ""
    words = {address, password, unquote(password)}
    words |= {word for form in (address, unquote(address)) for word in re.split(r"[^\w.\-]+", form)}
    for word in sorted(words, key=len, reverse=True):
        if len(word) >= SHORTEST_SECRET:
            line = line.replace(word, MASKED)
    return " ".join(line.split())


_HOW = {"webhook": _post, "python": _call, "apprise": _notify}

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
