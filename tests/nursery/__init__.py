"""Python programs in processes of their own, born in a fraction of the time that a new Python takes.

A new Python spends more than a second on importing Celery, SQLAlchemy and aiohttp, hundreds of times in
these tests. The nursery is a process that has imported them once, without a thread, a connection or a
configuration. For each program that is wanted it forks a child, which becomes what `python -m` would have
run, with arguments, environment, input, outputs and a session of its own, and ends as every Python does. The
child is a process as real as any other: it is killed, stopped and waited for in the same way.

A new Python, by `subprocess`, is for what is about its start or its command line: other options, a library
loaded before it, another folder, a reader of /proc.
"""

from __future__ import annotations

import atexit
import inspect
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, AnyStr

PROJECT = Path(__file__).parents[2]
NUMBER_BYTES = 4
"""The nursery says two numbers of each child: its process at first, how it ended at last."""
_HOW = inspect.signature(subprocess.Popen._execute_child)
"""What `Popen` says where it makes its process: the one place, if no public one, to have another make it."""
_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
_ENDS = ("p2cread", "c2pwrite", "errwrite")
"""The child's own, in the order of its descriptors."""


class Program(subprocess.Popen[AnyStr]):
    """A module that runs as by `python -m`; it is used as any `Popen` is.

    Args:
        module: the module; `words` are its arguments.
        how: as of `Popen`: environment, input, outputs, whether it leads a session, and the folder, which is
            the project's or a clone's: modules are those that are there.
    """

    def __init__(self, module: str, *words: str, **how: Any) -> None:
        super().__init__([module, *words], **how)

    def _execute_child(self, *given: Any) -> None:
        how = _HOW.bind(self, *given).arguments
        assert not any(how[each] for each in ("preexec_fn", "pass_fds")), "that takes a new Python"
        environment = dict(os.environ if how["env"] is None else how["env"])
        order = {"words": how["args"], "environment": environment, "leads": how["start_new_session"]}
        ends = [own if how[end] == -1 else how[end] for own, end in enumerate(_ENDS)]
        self._said, says = socket.socketpair()
        with says:
            nursery = _nursery(environment.get("PYTHONPATH", ""), how["cwd"] or PROJECT)
            socket.send_fds(nursery, [json.dumps(order).encode()], [*ends, says.fileno()])
        self.pid = self._number()
        self._child_created = True
        self._close_pipe_fds(*(how[each] for each in _PIPES))

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        ended = self._ended(timeout)
        if ended is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return ended

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._said], [], [], timeout)[0]:
            self.returncode = self._number()
            self._said.close()
        return self.returncode

    def _number(self) -> int:
        said = self._said.recv(NUMBER_BYTES, socket.MSG_WAITALL)
        assert said, "the nursery is gone"
        return int.from_bytes(said, sys.byteorder, signed=True)


def run(
    module: str,
    *words: str,
    env: Mapping[str, str] | None = None,
    cwd: Path = PROJECT,
    input: str = "",
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run a module to its end, and return what it said; see `Program`.

    Args:
        timeout: it is killed after so many seconds.
    """
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with Program[str](module, *words, env=env, cwd=cwd, text=True, **pipes) as program:
        try:
            out, err = program.communicate(input, timeout)
        except BaseException:
            program.kill()
            raise
    return subprocess.CompletedProcess([module, *words], program.returncode, out, err)


@cache
def _nursery(python_path: str, folder: Path) -> socket.socket:
    """Start the nursery of those who look for modules there and in `folder`; it ends with this process."""
    orders, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": python_path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )

    def close() -> None:
        orders.close()
        process.wait()

    atexit.register(close)
    return orders
