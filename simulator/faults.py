"""Faults, given by rule or by probability, and the plan that picks one for a request.

In words a fault is ``kind[:part[,part]...]``, a part being a probability or ``key=value``::

    500:0.1                                        one request in ten gets a server error
    slow:0.05:delay=2                              one in twenty waits two seconds
    500:operation=order-import,reference=SO-7,times=2

A colon and a comma separate alike, so neither can be part of a value.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from simulator.operations import OPERATIONS

KINDS = (
    "500",
    "slow",
    "reset",
    "cut",
    "silent",
    "omit",
    "unavailable",
    "unauthorised",
    "error-page",
    "exception",
    "maintenance",
    "missing",
    "moved",
    "hang",
)
DEFAULT_DELAY = 1.0
MAX_DELAY = 3600.0

_READERS: dict[str, Callable[[str], object]] = {
    "operation": str,
    "reference": str,
    "probability": float,
    "times": int,
    "delay": float,
    "status": int,
}
_ONLY_FOR = {"delay": "slow", "status": "500"}


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong, and the requests it is for: all, unless an operation or a reference is named."""

    kind: str
    operation: str | None = None
    reference: str | None = None
    probability: float = 1.0
    times: int | None = None
    delay: float = DEFAULT_DELAY
    status: int = 500

    def __post_init__(self) -> None:
        _require(self.kind in KINDS, "kind", self.kind, f"one of {', '.join(KINDS)}")
        named = self.operation is None or self.operation in OPERATIONS
        _require(named, "operation", self.operation, f"one of {', '.join(OPERATIONS)}")
        _require(self.reference != "", "reference", self.reference, "an external reference")
        _require(0 <= self.probability <= 1, "probability", self.probability, "a number from 0 to 1")
        _require(self.times is None or self.times >= 1, "times", self.times, "a whole number from 1")
        _require(0 <= self.delay <= MAX_DELAY, "delay", self.delay, f"seconds from 0 to {MAX_DELAY:g}")
        _require(200 <= self.status <= 599, "status", self.status, "an HTTP status from 200 to 599")

    @classmethod
    def parse(cls, spec: str) -> Fault:
        """A fault from its words; ValueError, in one line, when they make none."""
        try:
            kind, *parts = (part.strip() for part in re.split("[:,]", spec))
            return cls(kind, **_settings(kind, parts))
        except ValueError as error:
            raise ValueError(f"fault {spec!r}: {error}") from None

    def concerns(self, operation: str | None, references: Collection[str]) -> bool:
        """Whether a request of this operation, holding these references, is one this fault is for."""
        if self.operation is not None and self.operation != operation:
            return False
        return self.reference is None or self.reference in references


class FaultPlan:
    """Picks at most one fault for each request: the first that is for it and whose chance comes up.

    The same seed and the same sequence of requests give the same faults.
    """

    def __init__(self, faults: Iterable[Fault] = (), seed: int = 0) -> None:
        self.faults = tuple(faults)
        self._left = [fault.times for fault in self.faults]
        # Faults have to be repeatable, not hard to guess.
        self._chance = random.Random(seed)  # noqa: S311
        self._lock = threading.Lock()

    def pick(self, operation: str | None, references: Collection[str] = ()) -> Fault | None:
        """The fault for the next request, counted against its ``times``; None for an ordinary answer."""
        if not self.faults:
            return None
        with self._lock:
            for index, fault in enumerate(self.faults):
                if self._comes_up(index, fault, operation, references):
                    return fault
        return None

    def _comes_up(self, index: int, fault: Fault, operation: str | None, references: Collection[str]) -> bool:
        left = self._left[index]
        if left == 0 or not fault.concerns(operation, references):
            return False
        if fault.probability < 1 and self._chance.random() >= fault.probability:
            return False
        if left is not None:
            self._left[index] = left - 1
        return True


def as_faults(specs: Iterable[Fault | str]) -> tuple[Fault, ...]:
    """Faults from faults and words alike."""
    return tuple(Fault.parse(spec) if isinstance(spec, str) else spec for spec in specs)


def _settings(kind: str, parts: list[str]) -> dict[str, Any]:
    _require(kind in KINDS, "kind", kind, f"one of {', '.join(KINDS)}")
    settings: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            key, value = "probability", part
        _require(key in _READERS, "setting", key, f"a probability or one of {', '.join(_READERS)}")
        _require(key not in settings, key, value, "given once")
        _require(_ONLY_FOR.get(key, kind) == kind, key, value, f"given for {_ONLY_FOR.get(key)} only")
        settings[key] = _read(key, value)
    return settings


def _read(key: str, value: str) -> object:
    try:
        return _READERS[key](value)
    except ValueError:
        wanted = "a whole number" if _READERS[key] is int else "a number"
        raise ValueError(f"{key} {value!r} must be {wanted}") from None


def _require(holds: bool, name: str, found: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name} {found!r} must be {allowed}")
