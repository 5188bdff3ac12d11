"""The service's own settings: `config/outbox.toml`, overruled by the environment."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from .values import Duration, SecretSource, Strict, web_address

ENVIRONMENT_PREFIX = "OUTBOX_"


class EngineSettings(Strict):
    """The table `engine`."""

    lease: Duration = timedelta(seconds=90)
    poll: Duration = Field(default=timedelta(seconds=1), le=timedelta(seconds=1))
    sweep: Duration = timedelta(seconds=5)
    drain: Duration = timedelta(seconds=25)


class Hook(Strict):
    """One entry of `alerts.hooks`: a webhook or a command."""

    webhook: SecretStr | None = None
    command: list[str] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _is_one_kind(self) -> Hook:
        if (self.webhook is None) == (self.command is None):
            raise ValueError('give either webhook = "https://…" or command = ["…"]')
        if self.webhook is not None:
            web_address(self.webhook.get_secret_value().partition("?")[0])
        return self


class AlertSettings(Strict):
    """The table `alerts`."""

    grouping: Duration = timedelta(seconds=30)
    reminder: Duration = timedelta(hours=1)
    timeout: Duration = timedelta(seconds=10)
    hooks: list[Hook] = Field(default_factory=list)


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
    broker_url: SecretStr = SecretStr("")
    state_dir: Path = Path("var")
    destinations_file: Path = Path("destinations.toml")
    engine: EngineSettings = EngineSettings()
    alerts: AlertSettings = AlertSettings()
    flower: FlowerSettings = FlowerSettings()

    @field_validator("database_url")
    @classmethod
    def _is_a_known_database(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("sqlite:", "sqlite+pysqlite:", "postgresql")):
            raise ValueError("give sqlite:///path or postgresql+psycopg://…")
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
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings

    @property
    def broker_is_embedded(self) -> bool:
        return not self.broker_url.get_secret_value()

    def dump_for_people(self) -> dict[str, Any]:
        """Return the settings with every secret masked."""
        return self.model_dump(mode="json")
