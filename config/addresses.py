"""Internet addresses: which are inner ones, and which one a host is written as."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Address = IPv4Address | IPv6Address

_LOOPBACK = IPv4Address("127.0.0.1")
_NAT64 = ip_network("64:ff9b::/96")
_INNER_ALL_THE_SAME = (
    ip_network("192.0.0.0/24"),  # the standard library of some releases calls most of it global
    ip_network("168.63.129.16/32"),  # a cloud's own services at a public address
    ip_network("fec0::/10"),
    ip_network("3fff::/20"),  # for documentation, since RFC 9637
)


def is_inner(address: Address) -> bool:
    """Tell whether an address is no single host of the public internet, but of this machine or its networks.

    Of an IPv6 address that leads to an IPv4 one (mapped, NAT64, 6to4) it is that one that counts.
    Sources: IANA's registries of special-purpose addresses; RFC 3056, 4291, 6052.
    """
    leads_to = _ipv4_within(address)
    if leads_to is not None:
        return is_inner(leads_to)
    return (
        not address.is_global
        or address.is_multicast
        or address.is_reserved
        or any(address in network for network in _INNER_ALL_THE_SAME)
    )


def _ipv4_within(address: Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def check_host(host: str, private_addresses: bool) -> None:
    """Refuse a host that is written as an inner address, unless `private_addresses` allows those.

    A name passes: what it leads to is known, and guarded, when it is connected to.

    Raises:
        ValueError: it is an inner address, or an IPv4 address in a form that few read alike.
    """
    address, plain = _written_as(host)
    if address is not None and is_inner(address) and not private_addresses:
        which = host if plain else f"{host}, which is {address},"
        raise ValueError(
            f"{which} is an inner address: give a public one, "
            "or set private_addresses = true if that is where the destination is"
        )
    if not plain:
        raise ValueError(f"write the address as {address}")


def _written_as(host: str) -> tuple[Address | None, bool]:
    """Return the address that a host is written as, if it is one, and whether it is written plainly.

    Resolvers take `2130706433`, `0x7f.1` and `0177.0.0.1` for 127.0.0.1.
    """
    name = host.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return _LOOPBACK, True
    try:
        return ip_address(host), True
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(name)), False
    except OSError:
        return None, True
