"""The guard before a connection to a destination: it leads to no inner address unless that is allowed.

It is shown the very address that is connected to, after a name was resolved: a name that means another
address a moment later gains nothing by it.
"""

from __future__ import annotations

from ipaddress import ip_address

from config import is_inner


class AddressRefused(OSError):
    """A connection to an inner address, which was not made."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(f"{address} is an inner address")

    def told_of(self, host: str) -> str:
        """Return what to tell a person: who is where, and what would allow it."""
        where = host if host == self.address else f"{host} is at {self.address}, which"
        return f"{where} is an inner address, and private_addresses = true is not set for this destination"


def refuse_inner(address: str) -> None:
    """Raise AddressRefused for an inner address."""
    if is_inner(ip_address(address)):
        raise AddressRefused(address)
