"""The check of a destination: that its host is reached, and shows a certificate that stays valid."""

from __future__ import annotations

import socket
import ssl
import time
from datetime import timedelta
from urllib.parse import urlsplit

from config import Destination, in_words
from worker.guard import AddressRefused, refuse_inner

from .finding import Finding, State

CONNECT_SECONDS = 3.0
RENEWED_BEFORE = timedelta(days=21)
"""A certificate that ends sooner should have been renewed."""
_PORTS = {"http": 80, "https": 443}


def can_be_sent_to(name: str, destination: Destination) -> Finding:
    """Check that a destination's host is reached, and that its certificate is valid and will be for a while.

    It is verified as for every request: by the authorities that this machine trusts, for the address's host.
    """
    parts = urlsplit(destination.url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    place = f"{host}:{port}"
    try:
        with _connected(host, port, destination.private_addresses) as connection:
            if parts.scheme == "http":
                return Finding(name, State.WELL, f"{place} is reached, without TLS")
            with ssl.create_default_context().wrap_socket(connection, server_hostname=host) as secured:
                certificate = secured.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        told = f"{place} has a certificate that is not valid: {error.verify_message}"
        fix = "have its operator renew or mend it, or have this machine trust its authority (SSL_CERT_FILE)"
        return Finding(name, State.TROUBLE, told, fix)
    except ssl.SSLError as error:
        told = f"{place} is reached, but not by TLS: {error.reason or error}"
        return Finding(name, State.TROUBLE, told, "see what listens there; or mend its url")
    except AddressRefused as error:
        fix = "mend its url or the name server; or set private_addresses = true if that is where it is"
        return Finding(name, State.TROUBLE, error.told_of(host), fix)
    except OSError as error:
        told = f"{place} is not reached: {error}"
        fix = "see that its name is known, its host is up, and no firewall is between; or mend its url"
        return Finding(name, State.TROUBLE, told, fix)
    return _lasting(name, place, ssl.cert_time_to_seconds(str(certificate["notAfter"])))


def _connected(host: str, port: int, private_addresses: bool) -> socket.socket:
    """Connect to the first address of a host that lets itself be connected to, and that may be."""
    failed = OSError("its name has no address")
    for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        where = str(address[0])
        try:
            if not private_addresses:
                refuse_inner(where)
            return socket.create_connection((where, port), CONNECT_SECONDS)
        except OSError as error:
            failed = error
    raise failed


def _lasting(name: str, place: str, ends: float) -> Finding:
    left = timedelta(seconds=int(ends - time.time()))
    told = f"{place} is reached, and its certificate is valid for another {in_words(left)}"
    if left < RENEWED_BEFORE:
        return Finding(name, State.WARNING, told, "have its operator renew it")
    return Finding(name, State.WELL, told)
