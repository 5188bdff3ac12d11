"""What the service knows: settings, destinations, retry policies. It reads and never acts."""

from __future__ import annotations

from .destinations import Authentication, Destination
from .errors import ConfigError
from .loading import Configuration, load, load_settings
from .retry_policy import RetryPolicy
from .settings import AlertSettings, EngineSettings, Hook, Settings
from .values import in_words

__all__ = [
    "AlertSettings",
    "Authentication",
    "ConfigError",
    "Configuration",
    "Destination",
    "EngineSettings",
    "Hook",
    "RetryPolicy",
    "Settings",
    "in_words",
    "load",
    "load_settings",
]
