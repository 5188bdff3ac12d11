"""The end of a process that hangs: what hangs may keep all else from running, who would notice it included.

The timer is the interpreter's own, which needs no thread of Python's: so it ends a process that a regular
expression or a library has to itself. Where each thread stood is written to standard error before that.
"""

from __future__ import annotations

import asyncio
import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager

STANDARD_ERROR = 2
"""Its number: what stands in the place of `sys.stderr` in a worker leads to no file."""
HUNG_SECONDS = 300.0
"""How long an event loop may stand still. One that is frozen for so long may end when it thaws."""
TOLD_EVERY = 0.1
"""Of that time, from one sign of life to the next."""


def end_in(seconds: float) -> None:
    """End this process in `seconds`, unless this is called again, or `let_live` is."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=STANDARD_ERROR)


def let_live() -> None:
    """End this process no more."""
    faulthandler.cancel_dump_traceback_later()


@contextmanager
def ended_if_hung(seconds: float | None) -> Iterator[None]:
    """End this process if its event loop stands still for `seconds` within the block; None for never."""
    if seconds is None:
        yield
        return
    signs = asyncio.create_task(_give_signs(seconds))
    try:
        yield
    finally:
        signs.cancel()
        let_live()


async def _give_signs(seconds: float) -> None:
    while True:
        end_in(seconds)
        await asyncio.sleep(TOLD_EVERY * seconds)
