"""What the service knows: settings, destinations, retry policies, reply rules. It reads and never acts."""

from __future__ import annotations

from .destinations import Authentication, Destination
from .errors import ConfigError
from .loading import Configuration, load, load_rules, load_settings
from .reply_rules import ItemRule, ItemVerdict, ReplyRule, RulesFile, VerdictName
from .retry_policy import RetryPolicy
from .rule import Rule, is_expression
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
    "ItemRule",
    "ItemVerdict",
    "ReplyRule",
    "RetryPolicy",
    "Rule",
    "RulesFile",
    "Settings",
    "VerdictName",
    "in_words",
    "is_expression",
    "load",
    "load_rules",
    "load_settings",
]
