"""What a check has found, and checks that are given only so much time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orderflow_outbox.errors import OutboxError


class State(StrEnum):
    """How well what was looked at is."""

    WELL = "well"
    WARNING = "warning"
    TROUBLE = "trouble"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found.

    Attributes:
        name: the check's.
        told: what was found, in words.
        fix: what to do; empty where all is well.
    """

    name: str
    state: State
    told: str
    fix: str = ""


class CannotTell(OutboxError):
    """A check could not look; why, and what to do."""

    def __init__(self, told: str, fix: str) -> None:
        self.told, self.fix = told, fix
        super().__init__(told)


@dataclass(frozen=True, slots=True)
class Check:
    """One check: it is called with its name, and what it raises is a finding too."""

    name: str
    look: Callable[[str], Finding]

    def __call__(self) -> Finding:
        """Return what it finds; nothing is raised."""
        try:
            return self.look(self.name)
        except CannotTell as error:
            return Finding(self.name, State.UNKNOWN, error.told, error.fix)
        except Exception as error:  # one check that fails keeps no other from being made
            kind = "" if isinstance(error, OutboxError) else f"{type(error).__name__}: "
            told = f"could not be looked at: {kind}{' '.join(str(error).split())}"
            return Finding(self.name, State.UNKNOWN, told, "mend what is told there and look again")


def all_found(groups: Sequence[Sequence[Check]], seconds: float) -> list[Finding]:
    """Make all checks, the groups beside each other; return what was found, in order.

    Args:
        groups: checks of which those of a group are made one after the other.
        seconds: how long it may take in all. What hangs in a call that nobody can end, such as the look-up of
            a name, is left behind.
    """
    ends = time.monotonic() + seconds
    running = [_Group(checks) for checks in groups]
    for each in running:
        each.start()
    return [finding for each in running for finding in each.findings(ends, seconds)]


class _Group(threading.Thread):
    """Checks made one after the other, in a thread that the end of the process does not wait for."""

    def __init__(self, checks: Sequence[Check]) -> None:
        super().__init__(name="doctor", daemon=True)
        self._checks = checks
        self._found: list[Finding] = []

    def run(self) -> None:
        for check in self._checks:
            self._found.append(check())

    def findings(self, ends: float, seconds: float) -> list[Finding]:
        self.join(max(0.0, ends - time.monotonic()))
        found = list(self._found)
        unfinished = [check.name for check in self._checks[len(found) :]]
        if unfinished:
            told = f"no end of this within {seconds:g} s"
            fix = "see whether what is asked there hangs, and look again"
            found.append(Finding(unfinished[0], State.TROUBLE, told, fix))
        for name in unfinished[1:]:
            told = f"not looked at: it comes after {unfinished[0]}"
            found.append(Finding(name, State.UNKNOWN, told, f"mend {unfinished[0]} first"))
        return found
