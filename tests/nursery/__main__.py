"""The nursery's own process: `python -m tests.nursery SOCKET`, until whoever gives it orders is gone."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import time
from functools import cache

import typer.main

from tests.nursery import NUMBER_BYTES

IMPORTED = (
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "celery.fixups.django",
    "celery.worker.consumer",
    "kombu.transport.redis",
    "psycopg",
    "simulator",
    "tests.rig",
    "worker.commands",
)
"""What takes long to import. `tasks` is not among it: it reads its configuration meanwhile."""
MOST_BYTES = 200_000
DESCRIPTORS = 4
"""Input, output, errors, and where the two numbers are told."""


def next_child(orders: socket.socket) -> tuple[bytes, list[int]]:
    """Fork a child for each order; return in the child alone, with its order and its descriptors."""
    listeners: dict[int, socket.socket] = {}
    handlers = {
        # It only wakes the wait: a handler that looks for the dead may be interrupted by itself.
        signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda *_: None),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
    }
    # A child that ends between a look at those that ended and the next wait would not be told of in time.
    ended, says_ended = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(says_ended, warn_on_full_buffer=False)
    while True:
        ready = select.select([orders, ended], [], [])[0]
        if ended in ready:
            os.read(ended, MOST_BYTES)
            tell_of_the_dead(listeners)
        if orders not in ready:
            continue
        order, descriptors, _, _ = socket.recv_fds(orders, MOST_BYTES, DESCRIPTORS)
        if not order:
            sys.exit()
        # A child has no handlers of the nursery's, not even for its first moment.
        signal.pthread_sigmask(signal.SIG_BLOCK, handlers)
        child = os.fork()
        if child == 0:
            break
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)
        listeners[child] = socket.socket(fileno=descriptors.pop())
        for descriptor in descriptors:
            os.close(descriptor)
    signal.set_wakeup_fd(-1)
    os.close(ended)
    os.close(says_ended)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)
    for each in (orders, *listeners.values()):
        each.close()
    return order, descriptors


def tell_of_the_dead(listeners: dict[int, socket.socket]) -> None:
    """Say of each child that ended how it did."""
    while listeners:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        with listeners.pop(child) as listener:
            tell(listener, os.waitstatus_to_exitcode(status))


def become(order: bytes, descriptors: list[int]) -> None:
    """Run the module that is asked for, as `python -m` would."""
    asked = json.loads(order)
    if asked["leads"]:
        os.setsid()
    with socket.socket(fileno=descriptors.pop()) as listener:
        tell(listener, os.getpid())
    for own, given in enumerate(descriptors):
        os.dup2(given, own)
        os.close(given)
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    sys.argv = asked["words"]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def tell(listener: socket.socket, number: int) -> None:
    """Say a number, to whoever may be gone."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        listener.send(number.to_bytes(NUMBER_BYTES, sys.byteorder, signed=True))


if __name__ == "__main__":
    for _name in IMPORTED:
        importlib.import_module(_name)
    # Built from what they are declared as before a child is born, which takes as long as a short command.
    typer.main.get_command = cache(typer.main.get_command)
    typer.main.get_command(sys.modules["worker.commands"].app)
    gc.freeze()  # its memory stays shared with the children's
    become(*next_child(socket.socket(fileno=int(sys.argv[1]))))
