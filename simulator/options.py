"""The settings of a simulator, checked when they are made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simulator.faults import Fault, as_faults

CONTROL = "_simulator"
_INSTANCE = re.compile(r"[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Who is let in, what goes wrong and where to listen; port 0 takes any free port.

    Without channels (or organisations) any that is not empty is known.
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
    missing_products: Sequence[str] = ()
    ledger_file: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port {self.port} must be from 0 to 65535")
        object.__setattr__(self, "instance", checked_instance(self.instance))
        object.__setattr__(self, "faults", as_faults(self.faults))

    @property
    def fault_rules(self) -> tuple[Fault, ...]:
        """The faults to start with, read."""
        return as_faults(self.faults)

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
