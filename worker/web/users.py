"""Who may sign in: the users configured, or the one administrator there is while there are none."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from config import USER_NAME, ConfigError, Role, Settings, User, is_password_hash
from worker.generated import generated_password

from . import passwords

PASSWORD_FILE = "web-password"  # noqa: S105 (a file's name)


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may sign in.

    Attributes:
        hash: of the password; None of one whom a proxy names alone.
    """

    name: str
    role: Role
    hash: str | None = None

    @property
    def proof(self) -> bytes:
        """What a session was begun by, as a digest: it is another one once the password is."""
        return hashlib.sha256((self.hash or "").encode()).digest()


@dataclass(frozen=True, slots=True)
class Users:
    """Everybody who is known.

    Attributes:
        default_role: of those whom a proxy names and who are not among them; None refuses those.
        told: what to tell whoever starts the console of a password that was made here, which stands in it
            the first time alone; empty of one given.
    """

    accounts: Sequence[Account]
    default_role: Role | None = None
    told: str = ""

    @property
    def in_words(self) -> str:
        """Who may sign in, as it is told to whoever starts the console."""
        return ", ".join(each.name for each in self.accounts) or "whom the proxy names"

    def find(self, name: str) -> Account | None:
        """Return the account of a name."""
        return next((each for each in self.accounts if each.name == name), None)

    def named_by_proxy(self, name: str) -> Account | None:
        """Return whom a proxy means by a name; None of one that is refused."""
        known = self.find(name)
        if known is not None:
            return Account(name, known.role)
        if self.default_role is None or not re.fullmatch(USER_NAME, name):
            return None
        return Account(name, self.default_role)


def users_of(settings: Settings) -> Users:
    """Return everybody who is known; the password of the one administrator is made where there is none.

    Raises:
        ConfigError: the place a hash is kept in is empty, or holds no hash.
    """
    web = settings.web
    if web.users:
        return Users(_accounts(web.users), web.default_role)
    if web.trusted_header is not None and web.default_role is not None:
        return Users((), web.default_role)
    password, told = web.password.read(), ""
    if password is None:
        generated = generated_password(settings.state_dir, PASSWORD_FILE)
        password = generated.password
        told = f"the password of {web.user} is kept in {generated.file}"
        told += f": {password.get_secret_value()}" if generated.is_new else ""
    # With a salt of its own making the hash, and so each session, outlives a start of the console.
    salt = hashlib.sha256(b"salt" + password.get_secret_value().encode()).digest()[:16]
    made = passwords.hash_of(password.get_secret_value(), salt)
    return Users((Account(web.user, Role.ADMINISTRATOR, made),), web.default_role, told)


def _accounts(users: Iterable[User]) -> tuple[Account, ...]:
    return tuple(Account(each.name, each.role, _hash(each)) for each in users)


def _hash(user: User) -> str | None:
    place = user.secret_place
    if place is None:
        return user.password_hash.get_secret_value() if isinstance(user.password_hash, SecretStr) else None
    kept = place.read()
    if kept is None or not is_password_hash(kept.get_secret_value()):
        raise ConfigError(
            [
                f"the password_hash of {user.name} is not to be had from {place}: "
                "put there what `python -m worker web hash-password` prints"
            ]
        )
    return kept.get_secret_value()
