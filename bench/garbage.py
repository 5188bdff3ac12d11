"""Python's search for garbage, which takes longer than some of what is timed, whichever side it falls on."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_collected() -> Iterator[None]:
    """Have Python not search all its objects for garbage for the length of the block."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
