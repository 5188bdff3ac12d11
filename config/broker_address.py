"""The broker's address: which kinds there are, where its password goes, and whom its TLS trusts."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import quote, urlsplit

_SOCKET = "redis+socket"
_REDIS = ("redis", "rediss")
_TLS = ("rediss", "amqps")
_SCHEMES = (*_REDIS, _SOCKET, "amqp", "amqps")


def check_address(address: str) -> None:
    """Refuse an address that no broker can be reached by.

    Raises:
        ValueError: what is wrong with it, without a part of it.
    """
    scheme, separator, _ = address.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ValueError("give redis://host:6379/0, rediss://…, redis+socket:///path, amqp://… or amqps://…")
    if ";" in address:
        raise ValueError("give one address, and write each ; of a password as %3B")
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 (raises when the port is no number)
    except ValueError:
        raise ValueError(
            "the port is no number; in a password write each @ / ? # as %40 %2F %3F %23"
        ) from None
    if parts.netloc.count("@") > 1:
        raise ValueError("write each @ of a user or a password as %40")
    if scheme == _SOCKET:
        if parts.hostname or not parts.path.strip("/"):
            raise ValueError("give the socket's path: redis+socket:///path")
        return
    if not parts.hostname:
        raise ValueError(f"name the host: {scheme}://host:port/…")
    if parts.query or parts.fragment:
        # ?ssl_cert_reqs=none would switch verification off.
        raise ValueError("leave query and fragment out of the address; a CA is named by broker_ca_file")
    if scheme in _REDIS and parts.path.strip("/") and not parts.path[1:].isdecimal():
        raise ValueError(f"the path is the number of a database: {scheme}://host:port/0")


def holds_password(address: str) -> bool:
    """Tell whether a password stands in the address."""
    return urlsplit(address).password is not None


def with_password(address: str, password: str) -> str:
    """Return the address with a password in it, quoted."""
    scheme, _, rest = address.partition("://")
    authority, slash, path = rest.partition("/")
    user, _, host = authority.rpartition("@")
    return f"{scheme}://{user}:{quote(password, safe='')}@{host}{slash}{path}"


def speaks_tls(address: str) -> bool:
    """Tell whether the broker is reached over TLS."""
    return address.partition("://")[0] in _TLS


def check_ca_file(file: Path) -> None:
    """Refuse a file that holds no certificate to verify others with.

    Raises:
        ValueError: what is wrong with it.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        raise ValueError("it holds no certificate: name a file with the CA's in PEM form") from None
    except OSError as error:
        raise ValueError(f"not readable ({error.strerror}): name a file that is") from None
