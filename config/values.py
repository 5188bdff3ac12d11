"""Values that configuration files hold: durations, secrets, and addresses that may be trusted."""

from __future__ import annotations

import ipaddress
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, model_validator

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST_DURATION = timedelta(days=3650)


def duration(value: Any) -> timedelta:
    """Return a duration written as "500ms", "30s", "5m", "2h" or "7d"."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('write a duration such as "500ms", "30s", "5m", "2h" or "7d"')
    seconds = float(match[1]) * _SECONDS[match[2]]
    if not 0 < seconds <= LONGEST_DURATION.total_seconds():
        raise ValueError("give a duration longer than 0 and at most 3650d")
    return timedelta(seconds=seconds)


Duration = Annotated[timedelta, BeforeValidator(duration)]


def in_words(span: timedelta) -> str:
    """Return a duration as a person says it: `27 h 36 min`, `7 d`, `2.5 s`."""
    seconds = span.total_seconds()
    if seconds < 60:
        return f"{seconds:g} s"
    days, rest = divmod(round(seconds), 86400)
    if days >= 2:
        return f"{days} d" + (f" {rest // 3600} h" if rest >= 3600 else "")
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    parts = [(hours, "h"), (minutes, "min"), (left if not hours else 0, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


class Strict(BaseModel):
    """A table that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SecretSource(Strict):
    """Where a secret is kept: an environment variable or a file; never the value itself."""

    env: str | None = None
    file: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_a_table(cls, value: Any) -> Any:
        if not isinstance(value, dict | SecretSource):
            raise ValueError('write { env = "NAME" } or { file = "/path" }, never the secret itself')
        return value

    @model_validator(mode="after")
    def _names_one_place(self) -> SecretSource:
        if bool(self.env) == (self.file is not None):
            raise ValueError('name one place: { env = "NAME" } or { file = "/path" }')
        return self

    def read(self) -> SecretStr | None:
        """Return the secret, or None where the place is empty or not there."""
        if self.env is not None:
            return _secret(os.environ.get(self.env, ""))
        assert self.file is not None  # noqa: S101 (one of the two is set)
        try:
            return _secret(self.file.read_text(encoding="utf-8").strip())
        except (OSError, ValueError):
            return None

    def __str__(self) -> str:
        return f"environment variable {self.env}" if self.env else f"file {self.file}"


def _secret(text: str) -> SecretStr | None:
    if "\0" in text:  # what connects would read on to there, and go elsewhere without the rest
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return SecretStr(text) if text else None


def web_address(url: str, plain_http: bool = False, unless: str = ", or set allow_plain_http = true") -> str:
    """Return `url` without a closing slash, once it is one that credentials may be sent to.

    Source: the interface requires https, since both its authentication schemes are inadequate
    without it. Plain http is for loopback addresses, or where `plain_http` accepts it.

    Args:
        unless: what may be done instead of using https, told to who does not.
    """
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("use plain ASCII without blanks")
    parts = urlsplit(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError("give an address such as https://orderflow.example.com/web")
    if parts.username or parts.password:
        raise ValueError("leave user and password out of the address")
    if parts.query or parts.fragment:
        raise ValueError("leave query and fragment out of the address")
    parts.port  # noqa: B018 (raises when the port is no number)
    if parts.scheme == "http" and not plain_http and not is_loopback(parts.hostname):
        raise ValueError(f"use https; plain http is for loopback{unless}")
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Tell whether `host` is `localhost` or a loopback address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
