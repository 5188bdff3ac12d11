"""The headers and query parameters that are the service's own: a message cannot give them."""

from __future__ import annotations

SERVICE_HEADERS = frozenset(
    {
        "accept-encoding",
        "authorization",
        "channel",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "idempotency-key",
        "organisation",
        "password",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user",
        "user-agent",
    }
)
"""Headers the service sets itself, or that would change how the request is framed."""

SERVICE_QUERY = frozenset({"channel", "organisation", "password", "user"})
"""Query parameters that OrderFlow would take in place of the headers the service sets."""
