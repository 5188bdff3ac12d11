"""How often somebody may try to sign in: by name and by address, in memory that does not grow."""

from __future__ import annotations

import hashlib
import secrets
import threading
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

SPAN_SECONDS = 300.0
MOST_BY_NAME = 10
MOST_BY_ADDRESS = 30
"""Tries within a span; several people may share an address."""
PLACES = 4096
"""Names are counted in one of these each, by a key that nobody knows: nobody pushes another's count out."""


@dataclass(slots=True)
class _Count:
    number: int = 0
    since: float = 0.0


class _Counts:
    def __init__(self, most: int) -> None:
        self._most = most
        self._key = secrets.token_bytes(16)
        self._counts = [_Count() for _ in range(PLACES)]

    def of(self, name: str, now: float) -> _Count:
        digest = hashlib.blake2b(name.encode(), key=self._key, digest_size=8).digest()
        count = self._counts[int.from_bytes(digest, "big") % PLACES]
        if not count.number or now - count.since >= SPAN_SECONDS:
            count.number, count.since = 0, now
        return count

    def wait(self, name: str, now: float) -> float:
        count = self.of(name, now)
        return 0.0 if count.number < self._most else count.since + SPAN_SECONDS - now


class Tries:
    """Counts tries to sign in; safe to be used from several threads."""

    def __init__(self) -> None:
        self._names = _Counts(MOST_BY_NAME)
        self._addresses = _Counts(MOST_BY_ADDRESS)
        self._lock = threading.Lock()

    def begin(self, name: str, address: str, now: float) -> float:
        """Count a try before it is made; return 0, or for how many seconds none may be made.

        Args:
            now: seconds of a clock that only goes forward.
        """
        network = _network_of(address)
        with self._lock:
            wait = max(self._names.wait(name, now), self._addresses.wait(network, now))
            if wait <= 0:
                self._names.of(name, now).number += 1
                self._addresses.of(network, now).number += 1
            return wait

    def succeeded(self, name: str, address: str, now: float) -> None:
        """Forget the tries of a name, and the one of an address that was right."""
        with self._lock:
            self._names.of(name, now).number = 0
            count = self._addresses.of(_network_of(address), now)
            count.number = max(0, count.number - 1)


def _network_of(address: str) -> str:
    """Return what one customer of a network has: with IPv6 that is a /64."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    return str(int(known) >> 64) if isinstance(known, IPv6Address) else address
