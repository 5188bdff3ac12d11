"""Calling a hint out to the engines that listen: on Redis alone, and quicker than a task.

A task goes through the worker's main process, which hands it to a child; an engine that listens hears
a call at once. It waits for the next item of a list; Redis hands one over before it carries out the
next command. So one that is still there then was heard by nobody: it is taken back, and the hint given
as a task.
"""

from __future__ import annotations

from typing import Any

CALLS = "orderflow.calls"
"""The list: always empty between two calls."""


def can_call(connection: Any) -> bool:
    """Tell whether the broker of a kombu connection has lists to wait for."""
    return bool(connection.transport.driver_type == "redis")


def may_call(connection: Any) -> bool:
    """Tell whether a user may call out hints: one who may not take them back would leave each on the list.

    Args:
        connection: to a broker, by kombu.

    Raises:
        Exception: what keeps the broker from answering.
    """
    if not can_call(connection):
        return False
    try:
        connection.default_channel.client.rpop(CALLS)
    except connection.channel_errors:
        return False
    return True


def call(connection: Any) -> bool:
    """Call out a hint; return whether an engine has heard it.

    Args:
        connection: to a Redis, by kombu.

    Raises:
        Exception: what keeps the broker from it; one of `connection.channel_errors` where the user may not.
    """
    # Not as a MULTI: its commands would all be carried out before an item is handed over.
    commands = connection.default_channel.client.pipeline(transaction=False)
    commands.lpush(CALLS, "")
    commands.rpop(CALLS)
    _, unheard = commands.execute()
    return unheard is None


def is_called(connection: Any, seconds: int) -> bool:
    """Wait for a call; return whether one came. Of many who wait, the one that has waited longest hears it.

    Args:
        connection: to a Redis, by kombu.
        seconds: how long to wait; less than the connection waits for an answer.

    Raises:
        Exception: what keeps the broker from answering.
    """
    return connection.default_channel.client.brpop([CALLS], timeout=seconds) is not None
