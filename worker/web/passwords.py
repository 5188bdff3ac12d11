"""Hashes of passwords (argon2id), and checks of them: few at the same time, since each takes much memory."""

from __future__ import annotations

import threading

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

LONGEST = 1024
"""Characters of a password that are looked at; what is longer fits none."""
SHORTEST = 12
"""Characters that a new one has at least."""
AT_ONCE = 2
"""Checks at the same time, of 46 MiB each."""
PATIENCE_SECONDS = 5.0
"""How long one waits for its turn."""

_HASHER = PasswordHasher(time_cost=2, memory_cost=47_104, parallelism=1)


class Busy(Exception):
    """So many passwords are being checked that there is no turn for one more."""


def hash_of(password: str, salt: bytes | None = None) -> str:
    """Return the hash of a password, as `web.users` takes it."""
    return _HASHER.hash(password, salt=salt)


class Checks:
    """Checks of passwords against hashes."""

    def __init__(self) -> None:
        self._turns = threading.BoundedSemaphore(AT_ONCE)

    def fits(self, password: str, hash: str) -> bool:
        """Tell whether a password is the one of a hash.

        Raises:
            Busy: there was no turn for it.
        """
        if not self._turns.acquire(timeout=PATIENCE_SECONDS):
            raise Busy
        try:
            return len(password) <= LONGEST and _HASHER.verify(hash, password)
        except (Argon2Error, InvalidHashError):
            return False
        finally:
            self._turns.release()
