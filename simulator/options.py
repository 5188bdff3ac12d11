"""The settings of a simulator, checked when they are made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simulator.faults import Fault, as_faults

CONTROL = "_simulator"
LONGEST_WORK = 600
_INSTANCE = re.compile(r"[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Who is let in, what goes wrong, how fast it works and where to listen; port 0 takes any free port.

    Without channels (or organisations) any that is not empty is known. A request takes `work` seconds; where
    more are in progress than its capacity it takes longer, by the square of how many times as many there are.
    """

    host: str = "127.0.0.1"
    port: int = 0
    instance: str = "web"
    user: str = "shop"
    password: str = "demo"  # noqa: S105 - the stand-in guards nothing
    channels: Sequence[str] = ()
    organisations: Sequence[str] = ()
    faults: Sequence[Fault | str] = ()
    seed: int = 0
    work: float = 0.0
    capacity: int | None = None
    missing_products: Sequence[str] = ()
    ledger_file: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port {self.port} must be from 0 to 65535")
        if not 0 <= self.work <= LONGEST_WORK:
            raise ValueError(f"work {self.work} must be seconds from 0 to {LONGEST_WORK}")
        if self.capacity is not None and self.capacity < 1:
            raise ValueError(f"capacity {self.capacity} must be a whole number from 1")
        object.__setattr__(self, "instance", checked_instance(self.instance))
        object.__setattr__(self, "faults", as_faults(self.faults))

    @property
    def fault_rules(self) -> tuple[Fault, ...]:
        """The faults to start with, read."""
        return as_faults(self.faults)

    def seconds_of_work(self, in_progress: int) -> float:
        """How long a request takes when so many are in progress with it."""
        return self.work * max(1.0, in_progress / (self.capacity or in_progress)) ** 2

    def url(self, port: int) -> str:
        """The address of the instance, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{port}" + (f"/{self.instance}" if self.instance else "")


def checked_instance(text: str) -> str:
    """The instance name without outer slashes; ValueError when it cannot be a path."""
    instance = text.strip("/")
    if instance and not _INSTANCE.fullmatch(instance):
        raise ValueError(f"instance {text!r} must be path segments of letters, digits and . _ ~ -")
    if instance.split("/")[0] == CONTROL:
        raise ValueError(f"instance {text!r} must not begin with {CONTROL}, the control path")
    return instance
