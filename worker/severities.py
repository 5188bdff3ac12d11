"""How bad each cause of an incident is."""

from __future__ import annotations

from config import Severity

from .store import causes

_SEVERITIES = {
    causes.DESTINATION_HELD: Severity.CRITICAL,
    causes.BREAKER_OPEN: Severity.CRITICAL,
    causes.NOTHING_DELIVERED: Severity.CRITICAL,
    causes.ENGINES_SILENT: Severity.CRITICAL,
    causes.SWEEPS_SILENT: Severity.CRITICAL,
    causes.DISK_NEARLY_FULL: Severity.CRITICAL,
    causes.DEAD_LETTERS: Severity.ERROR,
    causes.OLDEST_DUE: Severity.WARNING,
    causes.EXPIRING: Severity.WARNING,
}


def severity_of(cause: str) -> Severity:
    """Return how bad a cause is; one of another release, whose incident is still open, is an error."""
    return _SEVERITIES.get(cause, Severity.ERROR)
