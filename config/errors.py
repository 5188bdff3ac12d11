"""A configuration that cannot be used, told so that it can be mended."""

from __future__ import annotations

from pathlib import Path

from orderflow_outbox.errors import OutboxError


class SecretMissing(OutboxError):
    """A password is not where the configuration says it is kept."""

    def __init__(self, place: object) -> None:
        super().__init__(f"a password is not to be had from {place}: put it there")


class ConfigError(OutboxError):
    """One or more things wrong in the configuration.

    Attributes:
        problems: a line each: file, key or line, what was found, what is allowed.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))

    @classmethod
    def of(cls, file: Path | str, where: str, found: str, allowed: str) -> ConfigError:
        """Return the error for a single problem."""
        return cls([f"{file}: {where} is {found}: {allowed}"])
