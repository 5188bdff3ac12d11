"""What the service knows: settings, destinations, retry policies, reply rules. It reads and never acts."""

from __future__ import annotations

from .addresses import is_inner
from .alerts import AlertSettings, Hook, HookKind, Severity
from .answer_rule import AnswerRule
from .destinations import Authentication, Destination
from .errors import ConfigError
from .limits import FETCHED_EVERY, BreakerPolicy, Rate
from .loading import Configuration, load, load_rules, load_settings
from .pauses import Pause, paused_operations, paused_until
from .personal_data import PersonalDataSettings
from .queries import Check, CheckRule, Presence, Queries, Query
from .reply_rules import ItemRule, ItemVerdict, ReplyRule, RulesFile, VerdictName, shadowing
from .retention import RetentionSettings
from .retry_policy import RetryPolicy
from .rule import Rule, is_expression
from .settings import EngineSettings, Settings
from .values import in_words
from .web import USER_NAME, Role, User, WebSettings, is_password_hash

__all__ = [
    "FETCHED_EVERY",
    "USER_NAME",
    "AlertSettings",
    "AnswerRule",
    "Authentication",
    "BreakerPolicy",
    "Check",
    "CheckRule",
    "ConfigError",
    "Configuration",
    "Destination",
    "EngineSettings",
    "Hook",
    "HookKind",
    "ItemRule",
    "ItemVerdict",
    "Pause",
    "PersonalDataSettings",
    "Presence",
    "Queries",
    "Query",
    "Rate",
    "ReplyRule",
    "RetentionSettings",
    "RetryPolicy",
    "Role",
    "Rule",
    "RulesFile",
    "Settings",
    "Severity",
    "User",
    "VerdictName",
    "WebSettings",
    "in_words",
    "is_expression",
    "is_inner",
    "is_password_hash",
    "load",
    "load_rules",
    "load_settings",
    "paused_operations",
    "paused_until",
    "shadowing",
]
