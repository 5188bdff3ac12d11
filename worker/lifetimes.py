"""How long messages may wait, by the configuration."""

from __future__ import annotations

from config import Configuration, Destination, RetryPolicy

from .store.aging import Ages, Lifetimes

UNKNOWN_DESTINATION = RetryPolicy(retry_after=[])
"""How long messages are kept for a destination that the configuration does not name."""


def lifetimes_of(configuration: Configuration) -> Lifetimes:
    """Return the largest ages there are, and when it is warned of them."""
    return Lifetimes(
        {name: _ages(each) for name, each in configuration.destinations.items()},
        UNKNOWN_DESTINATION.max_age,
        configuration.settings.alerts.expiry_warning,
    )


def policy_of(configuration: Configuration, destination: str, operation: str) -> RetryPolicy:
    """Return how patiently messages are retried, also to a destination that is not known any more."""
    known = configuration.destinations.get(destination)
    return UNKNOWN_DESTINATION if known is None else known.retry_policy(operation)


def _ages(destination: Destination) -> Ages:
    own = {name: settings.retry.max_age for name, settings in destination.operations.items()}
    return Ages(destination.retry.max_age, own)
