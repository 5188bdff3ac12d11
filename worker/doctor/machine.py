"""The check of this machine's disks."""

from __future__ import annotations

from config import Settings
from worker.watching import disks_of

from .finding import CannotTell, Finding, State


def has_room(name: str, settings: Settings) -> Finding:
    """Check that the disks with the state folder and with SQLite's file are not nearly full."""
    free = disks_of(settings).free
    if not free:
        raise CannotTell("what is free cannot be told", "see that state_dir can be looked at")
    limit = settings.alerts.disk_free
    told = ", ".join(f"{share:.1%} is free of the disk with {what}" for what, share in free.items())
    if min(free.values()) < limit:
        fix = f"make room: {limit:.1%} (disk_free) should be free"
        return Finding(name, State.TROUBLE, told, fix)
    return Finding(name, State.WELL, told)
