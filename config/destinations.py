"""The destinations: OrderFlow instances with their credentials, limits and patience."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, StrictBool, ValidationInfo, field_validator, model_validator

from orderflow_outbox.messages import DESTINATION_NAME

from .addresses import check_host
from .errors import SecretMissing
from .limits import BreakerPolicy, RateTable
from .pauses import Pause, leave_no_time
from .retry_policy import RetryPolicy, merged
from .values import Duration, SecretSource, Strict, web_address

DEFAULT_RETRY_AFTER = ["5s", "1m", "5m", "30m", "2h", "5h", "10h", "10h"]


class Authentication(StrEnum):
    """How the credentials travel."""

    BASIC = "basic"
    CUSTOM = "custom"
    BOTH = "both"


class OperationSettings(Strict):
    """What one operation has of its own at a destination."""

    retry: RetryPolicy


def _inheriting(base: dict[str, Any], own: Any) -> Any:
    """Return an operation's table with what it inherits; a wrong one as it is, to be refused by name."""
    retry = own.get("retry", {}) if isinstance(own, dict) else None
    return {**own, "retry": merged(base, retry)} if isinstance(retry, dict) else own


class Destination(Strict):
    """One table `destinations.NAME` of the destinations file."""

    allow_plain_http: bool = False
    private_addresses: StrictBool = False
    url: str
    user: str = Field(min_length=1)
    password: SecretSource
    authentication: Authentication = Authentication.BASIC
    scope_in_query: bool = False
    window: int = Field(default=8, ge=1, le=256, strict=True)
    rate: RateTable | None = None
    attempt_deadline: Duration = timedelta(seconds=30)
    pauses: list[Pause] = Field(default_factory=list)
    breaker: BreakerPolicy = BreakerPolicy()
    retry: RetryPolicy
    operations: Mapping[str, OperationSettings] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _operations_inherit(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        base = value.get("retry", {"retry_after": DEFAULT_RETRY_AFTER})
        operations = value.get("operations", {})
        if isinstance(operations, dict) and isinstance(base, dict):
            operations = {name: _inheriting(base, own) for name, own in operations.items()}
        return {**value, "retry": base, "operations": operations}

    @field_validator("url")
    @classmethod
    def _may_be_trusted(cls, value: str, others: ValidationInfo) -> str:
        web_address(value, others.data.get("allow_plain_http", False))
        check_host(urlsplit(value).hostname or "", others.data.get("private_addresses", False))
        return value

    @field_validator("user")
    @classmethod
    def _fits_a_header(cls, value: str) -> str:
        if not value.isascii() or not value.isprintable() or ":" in value:
            raise ValueError("use printable ASCII without a colon")
        return value

    @field_validator("pauses")
    @classmethod
    def _leave_time(cls, value: list[Pause]) -> list[Pause]:
        if leave_no_time(value):
            raise ValueError("leave some time between them; to stop a destination for good, hold it")
        return value

    @property
    def base_url(self) -> str:
        return self.url.rstrip("/")

    def retry_policy(self, operation: str) -> RetryPolicy:
        """Return how patiently messages of `operation` are retried here."""
        own = self.operations.get(operation)
        return self.retry if own is None else own.retry

    def secret(self) -> SecretStr:
        """Return the password.

        Raises:
            SecretMissing: the place it is kept in is empty or not there.
        """
        secret = self.password.read()
        if secret is None:
            raise SecretMissing(self.password)
        return secret


class DestinationsFile(Strict):
    """The whole destinations file."""

    destinations: Mapping[str, Destination] = Field(min_length=1)

    @field_validator("destinations", mode="before")
    @classmethod
    def _names_are_names(cls, value: Any) -> Any:
        for name in value if isinstance(value, dict) else ():
            if not DESTINATION_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name: use lower-case letters, digits, - and _")
        return value
