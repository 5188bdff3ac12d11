"""The service's own settings: `config/outbox.toml`, overruled by the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from .alerts import AlertSettings
from .broker_address import check_address, check_ca_file, holds_password, speaks_tls, with_password
from .errors import ConfigError
from .personal_data import PersonalDataSettings
from .retention import RetentionSettings
from .values import Duration, SecretSource, Strict
from .web import WebSettings

ENVIRONMENT_PREFIX = "OUTBOX_"
_DATABASES = ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg")
_LOGIN = re.compile(r"(?P<user>[\w+]+://[^:/?@]+)(?P<password>:[^@]*)?(?P<host>@.*)", re.DOTALL)
"""The part of an address before its host, read as SQLAlchemy reads it."""


class EngineSettings(Strict):
    """The table `engine`."""

    lease: Duration = timedelta(seconds=90)
    poll: Duration = Field(default=timedelta(seconds=1), le=timedelta(seconds=1))
    sweep: Duration = timedelta(seconds=5)
    drain: Duration = timedelta(seconds=25)


class SearchSettings(Strict):
    """The table `search`."""

    texts: bool = True


class FlowerSettings(Strict):
    """The table `flower`."""

    address: str = "127.0.0.1"
    port: int = Field(default=5555, ge=1, le=65535)
    user: str = Field(default="admin", pattern=r"^[A-Za-z0-9._-]+$")
    password: SecretSource = SecretSource(env="OUTBOX_FLOWER_PASSWORD")


class Settings(BaseSettings):
    """The whole of `config/outbox.toml`."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    database_url: SecretStr = SecretStr("sqlite:///var/outbox.db")
    database_password: SecretSource | None = None
    broker_url: SecretStr = SecretStr("")
    broker_password: SecretSource | None = None
    broker_ca_file: Path | None = None
    state_dir: Path = Path("var")
    destinations_file: Path = Path("destinations.toml")
    operations_file: Path | None = None
    rules_file: Path | None = None
    queries_file: Path | None = None
    schemas: Mapping[str, Path] = Field(default_factory=dict)
    engine: EngineSettings = EngineSettings()
    alerts: AlertSettings = AlertSettings()
    search: SearchSettings = SearchSettings()
    flower: FlowerSettings = FlowerSettings()
    web: WebSettings = WebSettings()
    retention: RetentionSettings = RetentionSettings()
    personal_data: PersonalDataSettings = PersonalDataSettings()

    @field_validator("database_url")
    @classmethod
    def _is_a_known_database(cls, value: SecretStr) -> SecretStr:
        kind, separator, _ = value.get_secret_value().partition("://")
        if not separator or kind not in _DATABASES:
            raise ValueError("give sqlite:///path or postgresql://user@host/database")
        login = _LOGIN.fullmatch(value.get_secret_value())
        if login is not None and "@" in re.split("[/?]", login["host"][1:])[0]:
            # Else the end of a password would be taken for a host, and named where that is not found.
            raise ValueError("write each @ of a user or a password as %40")
        return value

    @field_validator("database_password")
    @classmethod
    def _completes_the_address(
        cls, value: SecretSource | None, others: ValidationInfo
    ) -> SecretSource | None:
        url = others.data.get("database_url")
        if value is None or url is None:  # a wrong address is told by itself
            return value
        address = url.get_secret_value()
        if _is_sqlite(address):
            raise ValueError("database_url is SQLite, which asks for no password: leave this out")
        login = _LOGIN.fullmatch(address)
        if login is None:
            raise ValueError("database_url names no user for it: write postgresql://user@host/database there")
        if login["password"] is not None or re.search(r"[?&]password=", address):
            raise ValueError("database_url holds a password already: take one of the two away")
        return value

    @field_validator("broker_url")
    @classmethod
    def _is_a_known_broker(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            check_address(value.get_secret_value())
        return value

    @field_validator("broker_password")
    @classmethod
    def _completes_the_broker(cls, value: SecretSource | None, others: ValidationInfo) -> SecretSource | None:
        url = others.data.get("broker_url")
        if value is None or url is None:
            return value
        if not url.get_secret_value():
            raise ValueError("broker_url is empty, and the embedded broker has no password: leave this out")
        if holds_password(url.get_secret_value()):
            raise ValueError("broker_url holds a password already: take one of the two away")
        return value

    @field_validator("broker_ca_file")
    @classmethod
    def _verifies_the_broker(cls, value: Path | None, others: ValidationInfo) -> Path | None:
        url = others.data.get("broker_url")
        if value is None or url is None:
            return value
        if not speaks_tls(url.get_secret_value()):
            raise ValueError("only a rediss:// or amqps:// broker_url is verified by it: leave this out")
        check_ca_file(value)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment overrule the file, whose content is passed as arguments."""
        del dotenv_settings, file_secret_settings
        file = _not_overruled(init_settings(), env_settings())
        return env_settings, InitSettingsSource(settings_cls, file)

    @property
    def database_is_sqlite(self) -> bool:
        return _is_sqlite(self.database_url.get_secret_value())

    @property
    def broker_is_embedded(self) -> bool:
        return not self.broker_url.get_secret_value()

    def database_address(self) -> SecretStr:
        """Return the database's address with its password in it, wherever that is kept.

        Raises:
            ConfigError: the place the password is kept in is empty or not there.
        """
        if self.database_password is None:
            return self.database_url
        password = _secret("database_password", self.database_password)
        login = _LOGIN.fullmatch(self.database_url.get_secret_value())
        assert login is not None  # noqa: S101 (a password goes with such an address alone)
        return SecretStr(f"{login['user']}:{quote(password.get_secret_value(), safe='')}{login['host']}")

    def broker_address(self) -> SecretStr:
        """Return the configured broker's address with its password in it, wherever that is kept.

        Raises:
            ConfigError: the place the password is kept in is empty or not there.
        """
        if self.broker_password is None:
            return self.broker_url
        password = _secret("broker_password", self.broker_password)
        return SecretStr(with_password(self.broker_url.get_secret_value(), password.get_secret_value()))

    def dump_for_people(self) -> dict[str, Any]:
        """Return the settings with every secret masked."""
        return self.model_dump(mode="json")


def _secret(key: str, place: SecretSource) -> SecretStr:
    secret = place.read()
    if secret is None:
        raise ConfigError([f"{key} is not to be had from {place}: put it there"])
    return secret


def _is_sqlite(address: str) -> bool:
    return address.startswith("sqlite")


def _not_overruled(file: dict[str, Any], environment: dict[str, Any]) -> dict[str, Any]:
    """Return the file's content without the places of secrets for which the environment names another.

    Tables of the two are laid over each other key by key; but two places of a secret make none.
    """
    kept = {}
    for key, value in file.items():
        other = environment.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            if other.keys() & SecretSource.model_fields.keys():
                continue
            value = _not_overruled(value, other)
        kept[key] = value
    return kept
