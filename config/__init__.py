"""What the service knows: settings, destinations, retry policies, reply rules. It reads and never acts."""

from __future__ import annotations

from .destinations import Authentication, Destination
from .errors import ConfigError
from .loading import Configuration, load, load_rules, load_settings
from .reply_rules import ReplyRule, RulesFile, VerdictName, is_expression
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
    "ReplyRule",
    "RetryPolicy",
    "RulesFile",
    "Settings",
    "VerdictName",
    "in_words",
    "is_expression",
    "load",
    "load_rules",
    "load_settings",
]
