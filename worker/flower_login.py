"""The name and password that open Flower; there is no Flower without them."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from config import Settings

from .generated import generated_password

PASSWORD_FILE = "flower-password"  # noqa: S105 (a file's name)


@dataclass(frozen=True, slots=True)
class FlowerLogin:
    """How to log in; `generated_in` names the file of a password made here, empty for one given."""

    user: str
    password: SecretStr
    generated_in: str

    @property
    def basic_auth(self) -> str:
        return f"{self.user}:{self.password.get_secret_value()}"


def flower_login(settings: Settings) -> FlowerLogin:
    """Return the login: the password configured, else one generated once and kept in the state folder."""
    given = settings.flower.password.read()
    if given is not None:
        return FlowerLogin(settings.flower.user, given, "")
    made = generated_password(settings.state_dir, PASSWORD_FILE)
    return FlowerLogin(settings.flower.user, made.password, str(made.file))
