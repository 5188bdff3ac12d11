"""Whom to alert, of what and when: the table `alerts` of the settings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from orderflow_outbox.errors import shown

from .values import Duration, SecretSource, Strict, web_address

_APPRISE_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9]*://.+")


class Severity(StrEnum):
    """How bad it is; each cause of an incident has one."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"


class HookKind(StrEnum):
    """How an alert is told."""

    WEBHOOK = "webhook"
    COMMAND = "command"
    APPRISE = "apprise"
    PYTHON = "python"


_HOW = (
    'give one of webhook = "https://…", command = ["…"], apprise = "mailto://…" and '
    'python = "package.module:function"'
)


def _secret_address(value: Any) -> Any:
    if isinstance(value, dict):
        return SecretSource.model_validate(value)
    if not isinstance(value, str | SecretStr | SecretSource) or not value:
        raise ValueError('write an address, or where it is kept: { env = "NAME" } or { file = "/path" }')
    return SecretStr(value) if isinstance(value, str) else value


def _command(value: list[str]) -> list[str]:
    if not value[0] or any("\0" in each for each in value):
        raise ValueError('name a program first, and write no NUL: command = ["/usr/local/bin/page-someone"]')
    return value


SecretAddress = Annotated[SecretStr | SecretSource, BeforeValidator(_secret_address)]
"""An address that is a secret by itself, or holds one, or where such a one is kept."""


class Hook(Strict):
    """One entry of `alerts.hooks`: one way to tell an alert, and which alerts to tell by it."""

    webhook: SecretAddress | None = None
    command: Annotated[list[str], Field(min_length=1), AfterValidator(_command)] | None = None
    apprise: SecretAddress | None = None
    python: str | None = Field(default=None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    severities: list[Severity] = Field(default=list(Severity), min_length=1)
    destinations: list[str] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _is_one_kind(self) -> Hook:
        if sum(getattr(self, kind) is not None for kind in HookKind) != 1:
            raise ValueError(_HOW)
        if isinstance(self.webhook, SecretStr):
            web_address(self.webhook.get_secret_value().partition("?")[0], unless="")
        if isinstance(self.apprise, SecretStr) and not _APPRISE_ADDRESS.fullmatch(
            self.apprise.get_secret_value()
        ):
            raise ValueError('give an address of Apprise, such as apprise = "mailto://user:password@host"')
        return self

    @property
    def kind(self) -> HookKind:
        return next(kind for kind in HookKind if getattr(self, kind) is not None)

    @property
    def secret_place(self) -> SecretSource | None:
        """Where the address is kept, when it is not in the settings themselves."""
        value = getattr(self, self.kind)
        return value if isinstance(value, SecretSource) else None

    def is_told(self, severity: Severity, destination: str) -> bool:
        """Tell whether alerts of this severity, of this destination (or of none, "") go to this hook."""
        chosen = self.destinations
        return severity in self.severities and (chosen is None or not destination or destination in chosen)


class AlertSettings(Strict):
    """The table `alerts`."""

    grouping: Duration = timedelta(seconds=30)
    reminder: Duration = timedelta(hours=1)
    timeout: Duration = Field(default=timedelta(seconds=10), le=timedelta(hours=1))
    expiry_warning: float = Field(default=0.8, gt=0.0, lt=1.0)
    oldest_due: Duration = timedelta(minutes=15)
    nothing_delivered: Duration = timedelta(minutes=15)
    silence: Duration = Field(default=timedelta(minutes=2), ge=timedelta(seconds=1))
    disk_free: float = Field(default=0.05, ge=0.0, lt=1.0)
    hooks: list[Hook] = Field(default_factory=list)

    def problems(self, destinations: Iterable[str]) -> list[str]:
        """Return what is wrong beside the other files: key, what was found, what is allowed."""
        known = sorted(destinations)
        return [
            f"alerts.hooks.{n}.destinations names {shown(name)}, which is none: choose of {', '.join(known)}"
            for n, hook in enumerate(self.hooks)
            for name in hook.destinations or ()
            if name not in known
        ]
