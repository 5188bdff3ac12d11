"""Where the console listens, and by which certificate."""

from __future__ import annotations

import socket
import ssl

from config import ConfigError, WebSettings


def listen(settings: WebSettings) -> socket.socket:
    """Return the socket that the console listens on.

    Raises:
        OSError: the address is not to be had.
    """
    family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
    return socket.create_server((settings.address, settings.port), family=family)


def check_certificate(settings: WebSettings) -> None:
    """Refuse a certificate or a key that is none, or that do not belong together.

    Raises:
        ConfigError: which, and why.
    """
    if settings.certificate is None or settings.key is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            settings.certificate, settings.key
        )
    except (OSError, ssl.SSLError) as error:
        files = f"{settings.certificate} and {settings.key}"
        raise ConfigError(
            [f"web.certificate and web.key are {files}: not to be used ({error}): give a pair in PEM form"]
        ) from None


def address_of(settings: WebSettings) -> str:
    """Return where the console is found by a browser on this machine."""
    scheme = "https" if settings.speaks_tls else "http"
    host = f"[{settings.address}]" if ":" in settings.address else settings.address
    return f"{scheme}://{host}:{settings.port}"
