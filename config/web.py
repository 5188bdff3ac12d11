"""The console: where it listens, who may sign in, and as what: the table `web` of the settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, IPvAnyNetwork, SecretStr, field_validator, model_validator

from .values import Duration, SecretSource, Strict, is_loopback

USER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"
"""Names stand in the audit, in the log and in pages: nothing in one may look like anything else."""
_HASH = re.compile(r"\$argon2id\$v=19\$m=\d{1,7},t=\d{1,3},p=\d{1,3}\$[A-Za-z0-9+/]{8,}\$[A-Za-z0-9+/]{16,}")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")


class Role(StrEnum):
    """What somebody may do in the console; each role may do all that those before it may."""

    READER = "reader"
    OPERATOR = "operator"
    ADMINISTRATOR = "administrator"

    def covers(self, other: Role) -> bool:
        """Tell whether who has this role may do what needs `other`."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


def is_password_hash(text: str) -> bool:
    """Tell whether `text` is what `python -m worker web hash-password` prints."""
    return _HASH.fullmatch(text) is not None


def _hash_or_its_place(value: Any) -> Any:
    if isinstance(value, dict):
        return SecretSource.model_validate(value)
    if isinstance(value, SecretStr | SecretSource):
        return value
    if not isinstance(value, str) or not is_password_hash(value):
        raise ValueError(
            "give what `python -m worker web hash-password` prints, "
            'or where it is kept: { env = "NAME" } or { file = "/path" }'
        )
    return SecretStr(value)


class User(Strict):
    """One entry of `web.users`: somebody who may sign in, or whom a proxy names."""

    name: str = Field(pattern=USER_NAME)
    role: Role
    password_hash: Annotated[SecretStr | SecretSource | None, BeforeValidator(_hash_or_its_place)] = None

    @property
    def secret_place(self) -> SecretSource | None:
        """Where the hash is kept, when it is not in the settings themselves."""
        return self.password_hash if isinstance(self.password_hash, SecretSource) else None


class WebSettings(Strict):
    """The table `web`."""

    address: str = "127.0.0.1"
    port: int = Field(default=8880, ge=1, le=65535)
    hosts: list[str] = Field(default_factory=list)
    certificate: Path | None = None
    key: Path | None = None
    behind_proxy: bool = False
    users: list[User] = Field(default_factory=list)
    user: str = Field(default="admin", pattern=USER_NAME)
    password: SecretSource = SecretSource(env="OUTBOX_WEB_PASSWORD")
    trusted_header: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]+$")
    trusted_proxies: list[IPvAnyNetwork] = Field(default_factory=list)
    default_role: Role | None = None
    idle_limit: Duration = Field(default=timedelta(minutes=30), ge=timedelta(minutes=1))
    session_limit: Duration = timedelta(hours=12)

    @field_validator("hosts")
    @classmethod
    def _are_names(cls, value: list[str]) -> list[str]:
        names = [each.lower() for each in value]
        for each in names:
            if not _HOST.fullmatch(each):
                raise ValueError(f"{each!r} is no name of a host: leave scheme, port and path out")
        return names

    @field_validator("users")
    @classmethod
    def _have_names_of_their_own(cls, value: list[User]) -> list[User]:
        names = [each.name for each in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} stands there twice: give each a name of its own")
        return value

    @model_validator(mode="after")
    def _is_safe(self) -> WebSettings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("give certificate and key, or neither")
        if not (is_loopback(self.address) or self.speaks_tls or self.behind_proxy):
            raise ValueError(
                f"address {self.address!r} is beyond this machine: give certificate and key, or set "
                "behind_proxy = true if all that reaches it comes by a proxy that speaks https"
            )
        if (self.trusted_header is not None or self.default_role is not None) and not self.trusted_proxies:
            raise ValueError(
                "trusted_header is believed from trusted_proxies alone: name their addresses there"
            )
        if self.default_role is not None and self.trusted_header is None:
            raise ValueError("default_role is of those whom trusted_header names: give that too")
        return self

    @property
    def speaks_tls(self) -> bool:
        return self.certificate is not None

    def is_trusted(self, peer: str) -> bool:
        """Tell whether a request from this address may name its user, and the address it is passed on for."""
        address = _address(peer)
        return address is not None and any(address in network for network in self.trusted_proxies)

    def secrets(self) -> Sequence[tuple[str, SecretSource]]:
        """Return the places of secrets that have to be there, with their keys."""
        places = [(f"web.users.{n}.password_hash", user.secret_place) for n, user in enumerate(self.users)]
        return [(key, place) for key, place in places if place is not None]


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address written so; an IPv4 one that came by an IPv6 socket is an IPv4 one."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
