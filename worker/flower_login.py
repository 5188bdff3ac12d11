"""The name and password that open Flower; there is no Flower without them."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass

from pydantic import SecretStr

from config import Settings

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
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = settings.state_dir / PASSWORD_FILE
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        known = file.read_text(encoding="utf-8").strip()
        if known:
            return FlowerLogin(settings.flower.user, SecretStr(known), str(file))
        descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC, 0o600)
    password = secrets.token_urlsafe(18)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(password + "\n")
    return FlowerLogin(settings.flower.user, SecretStr(password), str(file))
